"""What llama-server chooses by itself: its context, layers on GPUs, experts on the host (``--fit``).

The steps are those of llama.cpp: nothing where all fits with 1024 MiB to spare on each device; a shorter
context where the user set none; whole layers on devices from the last to the first, for a mixture of
experts without the experts; then experts back from the first device to the last, the last layer in part.
Sizes come from `Deployment` instead of a trial load. Memory of the machine itself counts as unlimited,
as it does there.

References
----------
llama.cpp v0.5.0, common/fit.cpp (``common_params_fit_impl``) and common/common.h for the defaults.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

from llmcalc.memory.engines.llamacpp.caches import PAD
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.model.dialects import gguf_name
from llmcalc.planning.fitted import Fitted, Share
from llmcalc.units import MIB

TARGET = 1024 * MIB
"""Left free on each device: ``--fit-target``. [B]"""

LEAST_CONTEXT = 4096
"""A context is never made shorter than this: ``--fit-ctx``. [tokens]"""

EXPERTS = "ffn_(up|down|gate_up|gate)_(ch|)exps"
ALL_EXPERTS = rf"blk\.\d+\.{EXPERTS}"

SPILLS = {
    "attention": "ffn_(gate|up|gate_up|down).*",
    "up": "ffn_(gate|gate_up|down).*",
    "gate": "ffn_down.*",
    "experts": EXPERTS,
}
"""What a layer leaves elsewhere, by what of it stays on the device (``experts``: all but the experts)."""


def shortened(
    least: int, most: int, used_least: int, used_most: int, target: int, step: int = PAD
) -> int:  # fmt: skip
    """The context that a target allows, on the line between two contexts. [tokens]

    Parameters
    ----------
    least, most : int
        The shortest and the longest context. [tokens]
    used_least, used_most, target : int
        Memory at both, and what may be used. [B]
    step : int
        The context is a multiple of this. [tokens]

    Examples
    --------
    A log of an M-series Mac, 36,845 MiB at 262,144 tokens with 37,739 MiB free: its caches and mask take
    65 KiB a token, and llama.cpp took 260,096 tokens.

    >>> shortened(4096, 262_144, 36_845 * 1024 - 258_048 * 65, 36_845 * 1024, (37_739 - 1024) * 1024)
    260096
    """
    found = least + (most - least) * (target - used_least) // (used_most - used_least)
    return max(found - found % step, least)


def fit(
    make: Callable[[Any], Deployment],
    options: Any,
    slots: int,
    free: Sequence[int],
    limit: int,
    margin: int = TARGET,
    fixed: str = "",
) -> Fitted:
    """Choose what llama-server would.

    Parameters
    ----------
    make : callable
        A deployment for options.
    options : LlamaOptions
        As asked; without `n_ctx` the context is llama-server's to choose.
    slots : int
        Sequences held at once. [-]
    free : sequence of int
        Free memory of each device. [B]
    limit : int
        The model's longest context. [tokens]
    margin : int
        What shall stay free on each device. [B]
    fixed : str
        The option by which the user placed layers or tensors: then they stay as they are.
    """
    search = _Search(make, options, slots, [own - margin for own in free])
    chosen = copy.copy(options)
    most = chosen.n_ctx = options.n_ctx or limit * slots
    search.options = chosen
    whole = search.measure()
    search.fitted = Fitted(chosen, whole.totals, search.targets, most)
    if search.fitted.fits:
        return search.fitted
    if options.n_ctx is None and sum(whole.totals) > sum(search.targets) and search.shorten(whole, most):
        return search.fitted
    if fixed:
        search.fitted.used = search.measure().totals
        search.fitted.refused = f"{fixed} is given, so layers stay where it puts them"
        return search.fitted
    search.fill()
    return search.fitted


class _Measured:
    """Memory of a trial. [B]"""

    __slots__ = ("layers", "totals", "weights")

    def __init__(self, deployment: Deployment, n_ctx: int, slots: int) -> None:
        amounts = deployment.amounts(n_ctx, slots, exact=False)
        self.layers = len(deployment.layers)
        self.weights = list(amounts.weights[:-1])
        adapters = amounts.beside.get("lora")  # loaded after the fit, which knows nothing of them
        self.totals = [
            amounts.on_device(place) - (adapters[place] if adapters else 0)
            for place in range(len(self.weights))
        ]


class _Search:
    """llama.cpp's search over layers of devices, by false position."""

    def __init__(
        self, make: Callable[[Any], Deployment], options: Any, slots: int, targets: list[int]
    ) -> None:  # fmt: skip
        self.make, self.options, self.slots, self.targets = make, options, slots, targets
        self.many = len(targets)
        self.fitted: Fitted
        first = make(options)
        self.layers = len(first.layers)
        self.names: list[list[str]] = [[] for _ in range(self.layers)]
        for group in first.inventory.groups:
            if group.place == "layer" and group.component == "text":
                for layer in group.layers[: group.stored]:
                    self.names[layer] += [gguf_name(group, t, layer) or "" for t in group.tensors]
        self.sparse = any(re.search(EXPERTS, name) for own in self.names for name in own)

    # -- trials --------------------------------------------------------------------------------

    def measure(self, options: Any = None) -> _Measured:
        """Memory with options; those chosen so far unless others are given."""
        options = options or self.options
        return _Measured(self.make(options), options.n_ctx, self.slots)

    def placed(self, shares: Sequence[Share], spills: Sequence[str]) -> Any:
        """The options that put layers on devices so."""
        options = copy.copy(self.options)
        options.gpu_layers = sum(share.layers for share in shares)
        options.split = []
        if self.many > 1 and options.gpu_layers:
            options.split = [float(share.layers) for share in shares]
        layer = self.layers + 1 - options.gpu_layers
        bare: list[int] = []
        special: list[tuple[str, str]] = []
        for share, spill in zip(shares, spills, strict=True):
            layer += share.whole
            for place in range(layer, layer + share.partial):
                kept = share.kept if place == layer else "experts"
                where = spill if place == layer else "host"
                if not self._matches(place, SPILLS[kept]):
                    continue
                if (kept, where) == ("experts", "host"):
                    bare.append(place)
                else:
                    special.append((rf"blk\.{place}\.{SPILLS[kept]}", where))
            layer += share.partial
        if bare:
            many = "|".join(map(str, bare))
            special.append((rf"blk\.({many})\.{EXPERTS}", "host"))
        options.overrides = special
        return options

    def _matches(self, layer: int, pattern: str) -> bool:
        """Whether a layer has such tensors; the head has none."""
        pattern = rf"blk\.{layer}\.{pattern}"
        return layer < self.layers and any(re.search(pattern, name) for name in self.names[layer])

    def memory(self, shares: Sequence[Share], spills: Sequence[str]) -> list[int]:
        """Bytes on each device with layers placed so. [B]"""
        return self.measure(self.placed(shares, spills)).totals

    # -- a shorter context ---------------------------------------------------------------------

    def shorten(self, whole: _Measured, most: int) -> bool:
        """Shorten the context; whether that settles it, which it never does on several devices."""
        streams = 1 if self.options.kv_unified else self.slots
        least = LEAST_CONTEXT * streams
        if most <= least:
            return False
        target = sum(self.targets)
        if self.many > 1:
            waste = sum(whole.weights) // max(self.layers, 1)
            target -= (self.many + 1) * waste // (6 if self.sparse else 2)
        self.options.n_ctx = least
        used_least, used_most = sum(self.measure().totals), sum(whole.totals)
        if target <= used_least:
            return False
        self.options.n_ctx = shortened(least, most, used_least, used_most, target, PAD * streams)
        self.fitted.used = self.measure().totals
        return self.many == 1

    # -- layers --------------------------------------------------------------------------------

    def fill(self) -> None:
        """Layers from the last device to the first; experts after them."""
        spills = ["host"] * self.many
        room = self._room_without_experts() if self.sparse else 0
        shares = [Share() for _ in range(self.many)]
        used = self.memory(shares, spills)
        self.fitted.bare = used
        for device in reversed(range(self.many)):
            shares, used = self._fill_one(device, shares, used, spills)
        if room > 0:
            shares, used, spills = self._return_experts(shares, used, spills)
        self.fitted.shares, self.fitted.used = shares, used
        chosen = self.fitted.options = self.placed(shares, spills)
        self.fitted.is_pipeline = self.many > 1 and chosen.gpu_layers > self.layers and not chosen.overrides

    def _room_without_experts(self) -> int:
        """What is left in all with every expert on the host. [B]"""
        options = copy.copy(self.options)
        options.overrides = [(ALL_EXPERTS, "host")]
        return sum(self.targets) - sum(self.measure(options).totals)

    def _fill_one(
        self, device: int, shares: list[Share], used: list[int], spills: list[str]
    ) -> tuple[list[Share], list[int]]:
        """As many layers as a device takes, of those that later devices leave."""
        is_last = device == self.many - 1
        target = self.targets[device]
        left = self.layers + 1 - sum(share.layers for share in shares[device + 1 :])
        above = copy.deepcopy(shares)
        above[device].layers = left
        if self.sparse:
            above[device].partial = left - 1 if is_last else left
        if left <= 0:
            return shares, used
        high = self.memory(above, spills)
        if high[device] <= target:
            return above, high
        gap = above[device].layers - shares[device].layers
        while gap > 1:
            step = _step(gap, target, used[device], high[device])
            trial = copy.deepcopy(shares)
            trial[device].layers += step
            if self.sparse:  # the output layer is never partial
                trial[device].partial += step - 1 if is_last and not trial[device].partial else step
            found = self.memory(trial, spills)
            if found[device] <= target:
                shares, used = trial, found
            else:
                above, high = trial, found
            gap = above[device].layers - shares[device].layers
        return shares, used

    # -- experts -------------------------------------------------------------------------------

    def _return_experts(
        self, shares: list[Share], used: list[int], spills: list[str]
    ) -> tuple[list[Share], list[int], list[str]]:
        """Experts back to devices, from the first to the last."""
        start = self.many
        while start and shares[start - 1].layers:
            start -= 1
        device = 0
        while device <= start < self.many:
            shares, used, start = self._return_to(device, start, shares, used, spills)
            shares, used, start, spills = self._one_more(device, start, shares, used, spills)
            device += 1
        return shares, used, spills

    def _return_to(
        self, device: int, start: int, shares: list[Share], used: list[int], spills: list[str]
    ) -> tuple[list[Share], list[int], int]:
        """As many whole layers as a device takes, of those without experts."""
        target = self.targets[device]
        above = copy.deepcopy(shares)
        for place in range(start, self.many):
            moved = above[place].layers - (place == self.many - 1)
            above[device].layers += moved
            above[place].layers -= moved
            above[place].partial = 0
        high = self.memory(above, spills)
        if high[device] <= target:
            return above, high, self.many - 1
        gap = above[device].whole - shares[device].whole
        while gap > 1:
            step = _step(gap, target, used[device], high[device])
            trial, first, left = copy.deepcopy(shares), start, step
            while first < self.many:
                moved = min(left, trial[first].partial)
                trial[first].layers -= moved
                trial[first].partial -= moved
                trial[device].layers += moved
                left -= moved
                if trial[first].partial > 0:
                    break
                first += 1
            found = self.memory(trial, spills)
            if found[device] <= target:
                shares, used, start = trial, found, first
            else:
                above, high = trial, found
            gap = above[device].whole - shares[device].whole
        return shares, used, min(start, self.many - 1)

    def _one_more(
        self, device: int, start: int, shares: list[Share], used: list[int], spills: list[str]
    ) -> tuple[list[Share], list[int], int, list[str]]:
        """One more layer in part, if a part of it has room."""
        is_last = device == self.many - 1
        if shares[start].layers <= int(is_last) or not shares[start].partial:
            return shares, used, start, spills
        trial, first = copy.deepcopy(shares), start
        trial[first].layers -= 1
        trial[first].partial -= 1
        trial[device].layers += 1
        trial[device].partial += 1
        first += not trial[first].partial
        beyond = list(spills)
        if not is_last:
            beyond[device] = str(device + 1)

        def has_room(kept: str) -> list[int]:
            trial[device].kept = kept
            found = self.memory(trial, beyond)
            seen = found[device : device + 2]
            return found if all(a < b for a, b in zip(seen, self.targets[device:], strict=False)) else []

        found = has_room("up")
        for better in ("gate",) if found else ("attention",):
            shares, used = (copy.deepcopy(trial), found) if found else (shares, used)
            more = has_room(better)
            if more:
                shares, used, found = copy.deepcopy(trial), more, more
        if found:
            start, spills = min(first, self.many - 1), beyond
        return shares, used, start, spills


def _step(gap: int, target: int, low: int, high: int) -> int:
    """Layers to add next, on the line between two trials, between one and all but one. [-]"""
    if high == low:
        return 1
    over, under = gap * (target - low), high - low
    step = abs(over) // abs(under)
    if (over < 0) != (under < 0):
        step = -step % (1 << 32)  # unsigned in llama.cpp: below the target it tries the most
    return min(max(step, 1), gap - 1)
