"""PyTorch's first FSDP: each unit is one flat parameter, gathered on a stream of its own."""

from __future__ import annotations

from collections import deque
from typing import Any

from llmcalc.formula import Quantity, larger
from llmcalc.memory.training.parallel.fsdp import FullyShard, Held, Situation
from llmcalc.memory.training.parallel.played import UnitsPlayer
from llmcalc.memory.training.parallel.units import Unit

FLIGHT = 3
"""Layers that the gathering stream holds at once: the one that runs, the next one, and one whose end the host
has not waited for. [-]"""


class FlatShard(FullyShard):
    """FSDP1 over one class of ranks.

    Notes
    -----
    Read from PyTorch 2.2 (`torch/distributed/fsdp`): `use_orig_params` off, the next layer is gathered before
    the gradient of one (`BACKWARD_PRE`), no more than two gathers are in flight (`limit_all_gathers`). A flat
    parameter is gathered into place, without a buffer. Gradients of its views are laid side by side once.
    """

    name = "FSDP1"

    def look(self, moment: Any) -> Situation:
        """What there is while a stretch runs."""
        found = super().look(moment)
        found.scatter = 0
        if moment.phase == "forward":
            found.all_gather = 0
        elif moment.phase == "loss":
            order, _ = self._find(moment)
            found.all_gather = order[-1].gathered if order and order[-1].reshards else 0
        if self.alone:
            found.unsharded = found.all_gather = 0
        return found

    @property
    def alone(self) -> bool:
        """Whether each rank keeps all of it (``NO_SHARD``)."""
        return self.policy.degree == 1

    def _told(self, found: Situation) -> Held:
        told = super()._told(found)
        used = found.unsharded + found.all_gather
        self.idle = larger(self.gather_pool - used, 0) + self.sum_pool - found.shards
        return told

    def _before_forward(self, moment: Any, order: list[Unit], place: int) -> list[Any]:
        return []

    def _before_backward(self, moment: Any, order: list[Unit], place: int) -> list[Any]:
        return []

    def _after_backward(self, moment: Any, order: list[Unit], place: int) -> list[Any]:
        """Gradients of views are laid side by side, then summed."""
        unit = order[place]
        found = self.look(moment)
        late = found.own - moment.own if not self.policy.accumulates else 0
        more = unit.scattered + unit.out + (unit.shard if unit.narrows else 0)
        found.own = late + unit.own + larger(unit.own, more)
        return [self._event(moment, moment.end, f"sum of {moment.where}", found)]

    def _at_last(self, moment: Any) -> list[Any]:
        root = self.units.root
        found = Situation(shards=self.shards - (0 if self.repeats else root.shard))
        found.unsharded = 0 if self.alone else root.gathered
        more = root.scattered + root.out + (root.shard if root.narrows else 0)
        found.own = root.own + larger(root.own, more)
        return [self._event(moment, moment.end, "sum of the root", found)]

    def _pools(self) -> None:
        super()._pools()
        layers: Quantity = 0
        for unit in self.all:
            if unit is not self.units.root:
                layers = larger(layers, unit.gathered + unit.cast)
        self.gather_pool = 0 if self.alone else self.units.root.gathered + FLIGHT * layers

    def player(self, main: Any) -> Any:
        """What is taken and given between stretches."""
        return FlatPlayer(main, self)


class FlatPlayer(UnitsPlayer):
    """FSDP1's units: what is gathered comes from the gathering stream, and goes when the host has waited."""

    def __init__(self, main: Any, sharding: Any) -> None:
        super().__init__(main, sharding)
        self.waiting: deque[int] = deque()
        self.copies = main.another()
        self.copied: Any = None
        self.steps = 0

    def begin(self) -> None:
        """Gradients are let go; before the first step each unit has been made whole and cut."""
        super().begin()
        if not self.steps and not self.sharding.alone:
            for place, unit in enumerate(self.sharding.all):
                whole = int(unit.gathered)
                self.main.take(("module", place), whole)
                self.main.take(("flat", place), whole)
                self.main.drop(("module", place))
                self.main.drop(("flat", place))
        self.steps += 1

    def _fill(self, unit: Unit) -> None:
        key = id(unit)
        if key in self.open or self.sharding.alone:
            return
        self.open.add(key)
        if key in self.waiting:
            self.waiting.remove(key)
            return
        if self.policy.offload:  # a copy of the rank's part, which the gather reads on another stream
            self.copies.take(key, int(unit.gathered) // self.policy.degree)
            self.copies.drop(self.copied)
            self.copied = key
        self.gather.take(("cast", key), int(unit.cast))
        self.gather.take(("buffer", key), int(unit.gathered))
        self.gather.drop(("cast", key))

    def _open(self, unit: Unit, keeps: bool) -> None:
        return

    def _close(self, unit: Unit) -> None:
        key = id(unit)
        if key not in self.open:
            return
        self.open.discard(key)
        self.waiting.append(key)
        while len(self.waiting) > 1:
            self.gather.drop(("buffer", self.waiting.popleft()))

    def before_backward(self, chunk: int, name: Any) -> None:
        """The unit is there; the next one is gathered."""
        unit = self._unit(chunk, name)
        if unit is None:
            return
        self._fill(unit)
        order = self.sharding.chunks[chunk]
        place = order.index(unit)
        if place > 0 and order[place - 1].reshards:
            self._fill(order[place - 1])

    def _sum(self, unit: Unit, keys: list[Any], last: bool) -> None:
        key = id(unit)
        if unit.own:
            self.main.take(("side", key), int(unit.own))
            for one in keys:
                self.main.drop(one)
            if unit.scattered != unit.own:
                self.main.take(("input", key), int(unit.scattered))
            self._keep(unit)
            self.main.drop(("side", key))
            self.main.drop(("input", key))
        else:
            for one in keys:
                self.main.drop(one)
        self._close(unit)
