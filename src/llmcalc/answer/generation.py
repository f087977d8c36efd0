"""What transformers needs for other lengths and numbers than those asked about, and the most that fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import Any

from llmcalc.formula import Quantity, is_array, larger
from llmcalc.memory import caches
from llmcalc.memory.engines.transformers.attention import COLUMNS
from llmcalc.memory.engines.transformers.caches import as_kept
from llmcalc.memory.engines.transformers.items import held, prompt_of, runtime_of, share_on_device
from llmcalc.memory.engines.transformers.model import Loaded
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.planning.solve import LazyCapacity, most_that_fits
from llmcalc.report import Report
from llmcalc.scenario import Scenario

LONGEST = 1 << 20
"""Where a search for a longest context ends, for models without a limit. [tokens]"""
MOST_SEQUENCES = 1 << 14


class Trials:
    """The same estimate for other lengths and numbers: the report's own sums, without its items.

    Parameters
    ----------
    report : Report
        The estimate.
    loaded : Loaded
        The model as it runs.
    stored : Inventory
        As it is priced.
    precision, workload : Precision, Workload
        Formats, and what was asked.
    scenario : Scenario
        The question.
    """

    def __init__(
        self, report: Report, loaded: Loaded, stored: Inventory, precision: Precision, workload: Workload,
        scenario: Scenario,
    ) -> None:  # fmt: skip
        self.report, self.loaded, self.scenario = report, loaded, scenario
        self.outputs = loaded.outputs
        self.dp = loaded.placement.dp
        self.length = int(loaded.options.max_length) if loaded.options.is_static else 0
        self.limit = None if scenario.allow_overlong else stored.context
        self.weights = [int(amount) for amount in report["weights"].amounts]
        load = report["load_buffers"]
        self.load = [(int(one), int(high)) for one, high in zip(load.amounts, load.high, strict=True)]
        self.profiles = caches.profiles(
            as_kept(stored, loaded.options), loaded.placement, precision, workload
        )
        self.states = [int(_first(amount)) for amount in report["state"].amounts]
        self.many = int(_first(workload.sequences))
        # Stages that hold the same are looked at once, where their weights are the most.
        heaviest: dict[int, int] = {}
        for stage, same in enumerate(loaded.alike):
            if same not in heaviest or self.weights[stage] > self.weights[heaviest[same]]:
                heaviest[same] = stage
        self.stages = sorted(heaviest.values())
        self._known: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}

    def _needs(self, tokens: int, sequences: int) -> list[tuple[int, int, int, int]]:
        """Of each stage: prefill and decode beyond the caches, the caches, and those on the host. [B]"""
        loaded = self.loaded
        if self.scenario.encoder_assumed:
            loaded = copy(loaded)
            loaded.streams = {**loaded.streams, "encoder": tokens}
        read = prompt_of(tokens, None, self.scenario.output)
        found = []
        for stage in self.stages:
            pair = held(loaded, tokens, read, sequences, stage)
            state = self.states[stage] * sequences // self.many
            whole = int(self.profiles[stage].bytes(max(tokens, self.length))) * sequences - state
            kv = share_on_device(whole, loaded)
            rest = [max(one.bytes - kv - state, 0) for one in pair]
            found.append((rest[0], rest[1], kv + state, whole if loaded.options.is_offloaded else 0))
        return found

    def room(self, tokens: int, requests: int, safe: bool = False) -> int:
        """Bytes left on the stage with least, and of a memory that host and device share. [B]"""
        key = tokens, requests * self.outputs
        if key not in self._known:
            self._known[key] = self._needs(*key)
        device = self.report.device
        assert device is not None
        total = host = 0
        for stage, (prefill, decode, kept, away) in zip(self.stages, self._known[key], strict=True):
            process = runtime_of(prefill, decode)[2 if safe else 1]
            most = max(self.load[stage][int(safe)], kept + max(prefill, decode))
            total, host = max(total, self.weights[stage] + process + most), max(host, away)
        left = (device.usable_low if safe else device.usable_bytes) - total
        if device.shared_bytes and self.loaded.options.is_offloaded:
            left = min(left, device.shared_low - total - host)
        return int(left)

    def known(self, requests: int, safe: bool) -> dict[int, int]:
        """What the estimate itself leaves, where it asks for the same. [B]"""
        report, scenario = self.report, self.scenario
        if is_array(scenario.context) or -(-int(scenario.sequences) // self.dp) != requests:
            return {}
        tokens, device = int(scenario.context), report.device
        if scenario.prompt not in (None, prompt_of(tokens, None, scenario.output)) or device is None:
            return {}
        if not safe:
            return {tokens: int(report.headroom_bytes or 0)}
        return {} if report.is_shared else {tokens: device.usable_low - int(report.range_bytes[1])}

    def longest(self, requests: int, most: int, safe: bool = False) -> int:
        """The longest context of so many requests; 0 if none. [tokens]"""

        def fits(tokens: int) -> int:
            return self.room(tokens, requests, safe)

        if self.length:
            most = min(most, self.length)
        known = self.known(requests, safe)
        if not self.loaded.pads_masks or fits(most) >= 0:
            return most_that_fits(fits, most, known)
        # A mask with whole rows is not copied a second time, and neither is that of a whole last chunk: such
        # lengths need less than those between.
        base = start = int(self.scenario.output or 0)
        chunk, within = self.loaded.options.chunk, most
        for step in (*([math.lcm(COLUMNS, chunk)] if chunk else []), COLUMNS, 1):
            count = min(most - base, within) // step
            if count > 0 and (base == start or fits(base + step) >= 0):
                whole = {(n - base) // step: left for n, left in known.items() if not (n - base) % step}
                base += step * _most_from(base, step, count, fits, whole)
            within = step - 1
        return base if base > start or fits(max(base, 1)) >= 0 else most_that_fits(fits, min(base, most))

    def concurrency(self, tokens: int) -> int:
        """The most requests of a context. [-]"""
        return most_that_fits(lambda n: self.room(tokens, n), MOST_SEQUENCES) * self.dp


def _most_from(
    base: int, step: int, count: int, fits: Callable[[int], int], known: dict[int, int]
) -> int:  # fmt: skip
    """How many steps from a length fit. [-]"""
    return most_that_fits(lambda n: fits(base + step * n), count, known)


def _first(amount: Quantity) -> Any:
    """A number, or the first of an array's."""
    return amount.ravel()[0] if is_array(amount) else amount


def _each(context: Quantity, find: Callable[[int], int]) -> Quantity:
    """One number for each context."""
    if not is_array(context):
        return find(int(context))
    import numpy as np

    return np.array([find(tokens) for tokens in context.tolist()], dtype=np.int64)


def capacity_of(report: Report, trials: Trials) -> LazyCapacity:
    """The longest context and the most sequences that fit, each searched for when it is asked for."""
    loaded, device, context = trials.loaded, report.device, trials.scenario.context
    assert device is not None
    requests = -(-int(trials.scenario.sequences) // trials.dp)
    most = trials.limit or LONGEST

    def budget() -> Quantity:
        beside = report["activations"].amounts, report["decode_buffers"].amounts
        taken: Quantity = 0
        for stage, weight in enumerate(trials.weights):
            moving = larger(beside[0][stage], beside[1][stage])
            taken = larger(taken, weight + report["runtime"].amounts[stage] + moving)
        return device.usable_bytes - taken

    def longest(safe: bool) -> int | None:
        found = trials.longest(requests, most, safe)
        return None if found == LONGEST and trials.limit is None else found

    def alone() -> int | None:
        found = trials.longest(1, LONGEST)
        return None if found == LONGEST else found

    def grown(tokens: int) -> int:
        return max(loaded.decode(1, tokens + 1).bytes - loaded.decode(1, tokens).bytes, 0)

    return LazyCapacity(
        kv_budget_bytes=budget,
        kv_tokens=alone,
        kv_bytes_per_token=lambda: _each(context, grown),
        max_concurrency=lambda: _each(context, trials.concurrency),
        max_context=lambda: longest(False),
        safe_context=lambda: longest(True),
    )
