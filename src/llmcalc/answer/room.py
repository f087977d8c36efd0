"""What a llama.cpp deployment leaves for other contexts and slots: the most that fits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from llmcalc.engine_options import MAX_PARALLEL
from llmcalc.estimate import Item
from llmcalc.hardware import Device
from llmcalc.memory.engines.llamacpp.amounts import Amounts
from llmcalc.memory.engines.llamacpp.caches import PAD
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.model.inventory import Inventory
from llmcalc.planning.solve import TrialCapacity, settled
from llmcalc.report import Report
from llmcalc.scenario import Scenario

SURE = 8
"""With so large a part of a device left, a tensor more or less does not matter. [-]"""


class Room:
    """What a deployment leaves on its devices for contexts and slots other than its own.

    Parameters
    ----------
    deployment : Deployment
        The model where it lies.
    device : Device
        Its GPUs.
    report : Report
        Its estimate, for the ranges of its items.
    adapt : callable or None
        Changes options for a context and slots, where they depend on them.
    kept : int
        What must be left on each device so that layers stay where they are. [B]
    apart : tuple of int
        What lies beside the deployment, on each device and on the host. [B]
    """

    def __init__(
        self, deployment: Deployment, device: Device, report: Report,
        adapt: Callable[[Any, int, int], None] | None, kept: int,
        apart: tuple[int, int],
    ) -> None:  # fmt: skip
        self.deployment, self.device = deployment, device
        self.adapt, self.kept, self.apart = adapt, kept, apart
        self.runtime = report["runtime"]
        self._tried: dict[tuple[int, int, bool, int], Amounts] = {}
        names = report.names
        self.spread = [_spread(report["activations"])] * deployment.devices
        self.spread.append(_spread(report["host_activations"]) if "host_activations" in names else (1, 1))
        options = copy.copy(deployment.options)
        self.probe = deployment
        if options.n_ctx is not None or adapt is not None:
            self.probe = Deployment(
                deployment.inventory, deployment.precision, options, deployment.devices, deployment.backend,
                deployment.extras,
            )  # fmt: skip
        else:
            self._tried = {(*key, True, 0): found for key, found in deployment.estimated.items()}

    @property
    def is_pool(self) -> bool:
        """Whether slots share a total that was given."""
        return self.probe.options.n_ctx is not None and bool(self.probe.options.kv_unified)

    def amounts(self, tokens: int, slots: int, exact: bool, pool: int = 0) -> Amounts:
        """Bytes everywhere; of one cache for all slots, `tokens` is its length unless `pool` is. [B]"""
        key = (tokens, slots, exact, pool)
        if key not in self._tried:
            self._tried[key] = self._amounts(*key)
        return self._tried[key]

    def _amounts(self, tokens: int, slots: int, exact: bool, pool: int) -> Amounts:
        options = self.probe.options
        if options.n_ctx is not None:  # the total was given: it is searched too
            options.n_ctx = (pool or tokens) if options.kv_unified else tokens * slots
        if self.adapt is not None:
            self.adapt(options, tokens, slots)
        return self.probe.amounts(tokens, slots, exact)

    def __call__(
        self, tokens: int, slots: int, safe: bool = False, exact: bool = False, pool: int = 0
    ) -> int:  # fmt: skip
        """Bytes left on the device with least, and of a memory that host and device share. [B]"""
        amounts = self.amounts(tokens, slots, exact, pool)
        usable = self.device.usable_low if safe else self.device.usable_bytes
        over = int(self.runtime.high[0] if safe else self.runtime.amounts[0])
        devices = range(self.deployment.devices)
        most = max(amounts.on_device(i) + (self._above(amounts, i) if safe else 0) for i in devices)
        # What keeps layers in place is no need: to be safe is to fit.
        left = usable - (self.apart[0] if safe else max(self.kept, self.apart[0])) - over - most
        if not self.device.shared_bytes:
            return left
        host = amounts.on_host() + (self._above(amounts, len(devices)) if safe else 0)
        return min(left, self.device.shared_low - sum(self.apart) - over - most - host)

    def outlook(self, tokens: int, slots: int, safe: bool, asked: int) -> bool | None:
        """Whether so much surely fits (True), or nothing does (False): without a trial.

        Buffers grow at most in proportion to the context, so those of the estimate tell what a longer one
        may take.
        """
        deployment = self.deployment
        now = deployment.estimated.get((asked, slots))
        if now is None or self.probe is not deployment or deployment.extras:
            return None
        usable = self.device.usable_low if safe else self.device.usable_bytes
        left = (
            usable
            - int(self.runtime.high[0] if safe else self.runtime.amounts[0])
            - max(self.kept, *self.apart)
        )
        devices = range(deployment.devices)
        if any(now.weights[i] > left for i in devices):
            return False
        if tokens < asked or self.device.shared_bytes:
            return None
        then, times = deployment.kept(tokens, slots), -(-tokens // asked)
        buffers = [times * (now.compute[i] + self._above(now, i)) for i in devices]
        most = max(then.on_device(i) + buffers[i] for i in devices)
        return True if left - most >= usable // SURE else None

    def _above(self, amounts: Amounts, place: int) -> int:
        """What a place may hold above what is expected: buffers, and what lies beside the model. [B]"""
        most, expected = self.spread[place]
        found = -(-amounts.compute[place] * (most - expected) // expected)
        for extra in self.deployment.extras:
            for name, shown in extra.shown.items():
                held = amounts.beside[name][place] if name in amounts.beside else 0
                if held and (place == self.deployment.devices or not shown.host_only):
                    found += held * (shown.high - 100) // 100 + shown.more
        return found


def _spread(item: Item) -> tuple[int, int]:
    """The high end of an item and what is expected, where it is largest, rounded up. [B]"""
    place = max(range(len(item.amounts)), key=lambda i: int(item.amounts[i]))
    expected, most = int(item.amounts[place]), int(item.high[place])
    return (most + (most > expected), expected) if expected else (1, 1)


def attach_capacity(report: Report, room: Room, scenario: Scenario, inventory: Inventory) -> None:
    """The longest context and the most slots that fit, by llama.cpp's own steps."""
    many, context = int(scenario.sequences), int(scenario.context)
    devices, device = range(room.deployment.devices), room.device
    limit = None if scenario.allow_overlong else inventory.context
    pool = int(room.deployment.options.n_ctx) if room.is_pool else 0
    sure = device.usable_bytes // SURE

    def budget() -> int:
        now = room.deployment.asked(context, many)
        fixed = [now.fixed(i) + int(room.runtime.amounts[0]) for i in devices]
        found = min(device.usable_bytes - own for own in fixed)
        if device.shared_bytes:
            found = min(found, device.shared_low - sum(room.apart) - max(fixed) - now.on_host())
        return found

    def grown() -> int:
        now = room.deployment.asked(context, many)
        more = room.amounts(context + PAD, many, False, pool + PAD if pool else 0)
        step = max(more.cached(i) - now.cached(i) for i in devices)
        return step // PAD // (1 if pool else max(many, 1))

    def slots(number: int, exact: bool) -> int:
        """Whole sequences of the context: of a shared cache each takes that many cells."""
        return room(context, number, False, exact, context * number if room.is_pool else 0)

    def outlook(tokens: int, number: int, safe: bool) -> bool | None:
        return room.outlook(tokens, number, safe, context)

    report.capacity = TrialCapacity(
        room, many, limit, PAD, sure, context, outlook, kv_budget_bytes=budget, kv_bytes_per_token=grown,
        max_concurrency=lambda: settled(slots, MAX_PARALLEL, sure),
    )  # fmt: skip
    report.context_limit = inventory.context
