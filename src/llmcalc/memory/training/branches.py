"""Arrays of configurations: those for which the same operations run are traced together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from llmcalc.formula import is_array
from llmcalc.memory.training.plan import Adapter, Plan
from llmcalc.model.inventory import Group, Inventory

P = TypeVar("P", bound=Plan)


def replaced(plan: P, **changes: Any) -> P:
    """The same plan with some of its attributes changed."""
    made = copy.copy(plan)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class _Chosen(Plan):
    """Some of the configurations of a plan."""

    __slots__ = ("_ranks", "chosen", "plan", "shape")

    def __init__(self, plan: Plan, batch: Any, seq: Any, chosen: Any, shape: tuple[int, ...]) -> None:
        for name in Plan.__slots__:
            setattr(self, name, getattr(plan, name))
        self.plan, self.batch, self.seq, self.chosen, self.shape = plan, batch, seq, chosen, shape
        self._ranks: dict[int, tuple[Any, Any]] = {}

    def trains(self, group: Group, layer: int | None, role: str, part: str) -> bool:
        return self.plan.trains(group, layer, role, part)

    def dequant(self, group: Group, layer: int | None, role: str) -> int:
        return self.plan.dequant(group, layer, role)

    def grad_bytes(self, group: Group, layer: int | None, role: str, part: str) -> int:
        return self.plan.grad_bytes(group, layer, role, part)

    def adapter(self, group: Group, layer: int | None, role: str) -> Adapter | None:
        found = self.plan.adapter(group, layer, role)
        if found is None or not is_array(found.rank):
            return found
        key = id(found.rank)
        if key not in self._ranks:
            import numpy as np

            self._ranks[key] = found.rank, np.broadcast_to(found.rank, self.shape)[self.chosen]
        return Adapter(found.kind, self._ranks[key][1], found.bytes, found.dropout)


def branched(inventory: Inventory, plan: Plan, run: Callable[[Inventory, Plan], Any]) -> Any:
    """A trace of arrays: kinds that differ in what runs apart, and put together again.

    One sequence, or several, and a window, reached or not, decide which operations run.
    """
    import numpy as np

    batch, seq = np.asarray(plan.batch, np.int64), np.asarray(plan.seq, np.int64)
    shape = np.broadcast_shapes(batch.shape, seq.shape, *(np.shape(rank) for rank in _ranks(inventory, plan)))
    batch, seq = np.broadcast_to(batch, shape), np.broadcast_to(seq, shape)
    kinds = (batch == 1).astype(np.int64)
    for window in _windows(inventory):
        kinds = 2 * kinds + (seq >= window)
    traces = []
    for kind in np.unique(kinds):
        chosen = kinds == kind
        traces.append((chosen, run(inventory, _Chosen(plan, batch[chosen], seq[chosen], chosen, shape))))
    return _joined(traces, shape)


def _ranks(inventory: Inventory, plan: Plan) -> list[Any]:
    found = []
    for group in inventory.groups:
        for op in group.ops:
            if op.kind == "linear" and group.place == "layer":
                adapter = plan.adapter(group, group.layers[0] if group.layers else None, op.role)
                if adapter is not None and is_array(adapter.rank):
                    found.append(adapter.rank)
    return found


def _windows(inventory: Inventory) -> list[int]:
    windows = {op.window for group in inventory.groups for op in group.ops if op.role == "attention"}
    return sorted(window for window in windows if window is not None)


def _joined(traces: list[tuple[Any, Any]], shape: tuple[int, ...]) -> Any:
    import numpy as np

    def put(amounts: list[Any]) -> Any:
        whole = np.zeros(shape, np.int64)
        for (chosen, _), amount in zip(traces, amounts, strict=True):
            whole[chosen] = amount
        return whole

    first = traces[0][1]
    first.saved = put([one.saved for _, one in traces])
    first.parts = {
        label: put([one.parts.get(label, 0) for _, one in traces])
        for label in dict.fromkeys(label for _, one in traces for label in one.parts)
    }
    for place, moment in enumerate(first.moments):
        for name in ("activations", "logits", "gradients", "buffers"):
            setattr(moment, name, put([getattr(one.moments[place], name) for _, one in traces]))
    return first
