"""PyTorch's FSDP2: units are gathered before they run and their gradients scattered after it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from llmcalc.estimate import add_up
from llmcalc.formula import Quantity, ceil_div, larger
from llmcalc.memory.training.model_states import States
from llmcalc.memory.training.parallel.pipelining import stage_buffers
from llmcalc.memory.training.parallel.sharding import Part, Sharding, combined
from llmcalc.memory.training.parallel.units import Policy, Unit, Units

Held = tuple[Quantity, Quantity, Quantity]
"""Gradients, what is gathered, other buffers. [B]"""


class Situation:
    """What FSDP holds at one moment, by what it is. [B]"""

    __slots__ = ("all_gather", "own", "parts", "scatter", "shards", "unsharded", "whole")

    def __init__(
        self, unsharded: Quantity = 0, all_gather: Quantity = 0, shards: Quantity = 0, whole: Quantity = 0,
        own: Quantity = 0, scatter: Quantity = 0, parts: Quantity = 0,
    ) -> None:  # fmt: skip
        self.unsharded, self.all_gather, self.shards = unsharded, all_gather, shards
        self.whole, self.own, self.scatter, self.parts = whole, own, scatter, parts

    @property
    def gathered(self) -> Quantity:
        """Parameters of other ranks, and buffers that they come in. [B]"""
        return self.unsharded + self.all_gather + self.parts


class FullyShard(Sharding):
    """FSDP2 over one class of ranks.

    Parameters
    ----------
    policy : Policy
        How it is set up.

    Notes
    -----
    Read from PyTorch 2.13 (`torch/distributed/fsdp/_fully_shard`) and held against its FSDPMemTracker. What
    runs on the host in order is allocated in that order: a unit's gather buffer lives until the next unit
    has copied out its own; a unit's gradients to be scattered live until the next unit has gone backward.
    """

    name = "FSDP2"
    shared = ("weights", "master", "gradients", "optimizer")
    own_gradients = True
    by_rows = True
    has_pools = True

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def cut(self, replicas: int) -> int:
        """Ranks among which tensors of so many replicas are cut. [-]"""
        return min(self.policy.degree, replicas)

    def begin(self, question: Any, model: Any, stage: Any, parts: Sequence[Part]) -> None:
        """Lay out the units in the order in which they run."""
        self.units = Units(question.local_ranks, stage, self.policy)
        self.kept = self.policy.degree < question.asked.mesh.replicas
        units = self.units
        self.chunks: list[list[Unit]] = []
        self.place: dict[int, tuple[int, int]] = {}
        for number, (span, embedding, head) in enumerate(stage.chunks):
            order = [units.embedding] if embedding and units.embedding is not units.root else []
            for layer in span:
                self.place[layer] = number, len(order)
                order.append(units.layers[layer])
            if head and units.head is not units.root:
                order.append(units.head)
            self.chunks.append(order)
        self.all = [units.root, *(unit for order in self.chunks for unit in order)]
        self.shards: Quantity = add_up(unit.shard for unit in self.all)
        self.whole: Quantity = add_up(unit.whole for unit in self.all)
        self.repeats = question.asked.accumulate > 1
        ranks = question.local_ranks
        self.standing = stage_buffers(ranks.mesh, stage, ranks.plan, ranks.model)
        if self.policy.offload and units.scales:
            self.standing["scales of packed weights"] = units.scales
        self._pools()

    def player(self, main: Any) -> Any:
        """What is taken and given between stretches."""
        from llmcalc.memory.training.parallel.played import UnitsPlayer

        return UnitsPlayer(main, self)

    def tensors(self) -> list[int]:
        """Each trained tensor's part as it is kept. [B]"""
        return [bytes_ for unit in dict.fromkeys(self.all) for bytes_ in unit.parts]

    def share(self, parts: Sequence[Part]) -> States:
        """States are cut row by row already."""
        return combined([(states, 1) for states, _ in parts], ())

    # -- where a moment is -----------------------------------------------------------------------

    def _find(self, moment: Any) -> tuple[list[Unit], int]:
        """The units of the moment's chunk, and the place of the one that runs; -1 is the root."""
        units = self.units
        if moment.layer is not None:
            chunk, place = self.place[moment.layer]
            return self.chunks[chunk], place
        if moment.where == "head":
            order = self.chunks[-1]
            return order, len(order) - 1 if units.head is not units.root else len(order)
        order = self.chunks[0]
        return order, 0 if units.embedding is not units.root else -1

    def _others(self, order: list[Unit]) -> Quantity:
        """What units of other chunks keep gathered. [B]"""
        if self.policy.reshard:
            return 0
        rest = [unit for one in self.chunks if one is not order for unit in one]
        return add_up(unit.gathered for unit in rest)

    def _unsharded(self, order: list[Unit], place: int) -> Quantity:
        """Units that are gathered as the one at a place runs: the root, it, and those not let go. [B]"""
        stays = [unit for number, unit in enumerate(order) if number < place and not unit.reshards]
        here = [order[place]] if 0 <= place < len(order) else []
        return add_up(unit.gathered for unit in (self.units.root, *stays, *here)) + self._others(order)

    def _parts(self, order: list[Unit], place: int) -> Quantity:
        """What was let go but stays shared among fewer ranks. [B]"""
        few = int(self.policy.reshard)
        if few < 2:
            return 0
        units = [unit for number, unit in enumerate(order) if number < place and unit.reshards]
        return add_up(ceil_div(unit.gathered, few) for unit in units)

    def _done(self, order: list[Unit], place: int) -> list[Unit]:
        """Units whose gradients have been scattered as the one at a place goes backward."""
        found, seen = [], False
        for one in reversed(self.chunks):
            if one is order:
                found += one[max(place + 1, 0) :]
                seen = True
            elif not seen:
                found += one
        return found

    # -- what is there ---------------------------------------------------------------------------

    def look(self, moment: Any) -> Situation:
        """What there is while a stretch runs."""
        order, place = self._find(moment)
        made = Situation(self._unsharded(order, place), parts=self._parts(order, place))
        before = self.shards if self.repeats and not self.policy.whole_gradients else 0
        if moment.phase == "forward":
            made.all_gather = self._gather(order, place)
            if place == len(order) and self.policy.outside:
                made.all_gather = 0
            made.shards = before
            made.whole = self.whole if self.repeats and self.policy.whole_gradients else 0
            return made
        made.own = moment.own
        self._gradients(made, order, place, moment.phase)
        if moment.phase == "loss":
            last = order[-1] if order else None
            if not self.policy.outside and last is not None and last.reshards:
                made.all_gather = last.gathered
            return made
        if place > 0 and order[place - 1].reshards:
            made.all_gather = order[place - 1].gathered
        if place >= 0 and place + 1 < len(order):
            made.scatter = made.scatter + order[place + 1].scattered
        if place < 0 and order:
            made.scatter = made.scatter + order[0].scattered
        return made

    def _gather(self, order: list[Unit], place: int) -> Quantity:
        """The gather buffer that is there as a unit runs forward: its own, or the last one's. [B]"""
        if place < 0:
            return self.units.root.gathered
        return order[min(place, len(order) - 1)].gathered if order else self.units.root.gathered

    def _gradients(self, made: Situation, order: list[Unit], place: int, phase: str) -> None:
        """Parameters' gradients beside those of the stretch that runs."""
        done = self._done(order, place)
        late = self.units.late if phase == "backward" else 0
        if self.policy.whole_gradients and self.repeats:
            # In the last micro-batch those that are done are shards.
            made.whole = self.whole - add_up(unit.whole for unit in done)
            made.shards = add_up(unit.shard for unit in done)
            made.own = 0 if self.policy.accumulates else made.own + late
        else:
            made.shards = add_up(unit.shard for unit in done) if not self.repeats else self.shards
            made.own = made.own + late
        if self._keeps_sums:
            made.scatter = made.scatter + add_up(unit.out for unit in done)

    @property
    def _keeps_sums(self) -> bool:
        """Whether sums over replicas stay to the end of the backward pass beside their narrow copies."""
        return self.kept and any(unit.narrows for unit in self.all)

    def at(self, moment: Any) -> Held:
        """Gradients, what is gathered, and other buffers while a stretch runs. [B]"""
        return self._told(self.look(moment))

    def _told(self, found: Situation) -> Held:
        if self.policy.offload:  # each sum goes to the host
            found.shards = 0
        gradients = found.shards + found.whole + found.own
        # Other streams have pools of their own, which keep what they once took.
        self.idle = self.gather_pool - found.all_gather + self.sum_pool - found.shards
        return gradients, found.gathered, found.scatter

    def around(self, moment: Any) -> tuple[list[Any], list[Any]]:
        """Moments before and after a stretch, as units are gathered and gradients scattered."""
        order, place = self._find(moment)
        if moment.phase == "forward":
            return self._before_forward(moment, order, place), []
        before, after = self._before_backward(moment, order, place), []
        if moment.phase == "backward" and 0 <= place < len(order):
            after = self._after_backward(moment, order, place)
        ends = order and order is self.chunks[0] and place == 0 and not self.units.embedding.filled
        if moment.where == "embedding" or ends:
            after = after + self._at_last(moment)
        return before, after

    def _event(self, moment: Any, edge: Any, where: str, found: Situation) -> tuple[Any, ...]:
        told = self._told(found)
        return (moment.phase, where, edge, told, self.idle)

    def _before_forward(self, moment: Any, order: list[Unit], place: int) -> list[Any]:
        """A unit is gathered while the buffer of the one before is still there."""
        if place >= len(order) or (place < 0 and not self.units.root.filled):
            return []
        found = self.look(moment)
        unit = order[place] if place >= 0 else self.units.root
        if place >= 0:
            previous = self._gather(order, place - 1)
            found.all_gather = previous + unit.gathered
        found.scatter = found.scatter + larger(unit.cast - unit.gathered, 0)
        return [self._event(moment, moment.begin, f"gather of {moment.where}", found)]

    def _before_backward(self, moment: Any, order: list[Unit], place: int) -> list[Any]:
        """A unit is copied out of its buffer, then the next one's is filled."""
        if moment.phase == "loss" or not 0 <= place < len(order):
            return []
        unit = order[place]
        found = self.look(moment)
        found.own = found.own - moment.own
        ahead = order[place - 1] if place > 0 and order[place - 1].reshards else None
        own = unit.gathered if unit.reshards else 0
        found.all_gather = own if ahead is None else larger(own, ahead.gathered + ahead.cast)
        return [self._event(moment, moment.begin, f"gather of {moment.where}", found)]

    def _after_backward(self, moment: Any, order: list[Unit], place: int) -> list[Any]:
        """Gradients are laid side by side to be summed."""
        unit = order[place]
        found = self.look(moment)
        found.unsharded = found.unsharded - unit.gathered
        more = unit.last + unit.out + (unit.shard if unit.narrows else 0)
        held = unit.whole if self.policy.whole_gradients and self.repeats else unit.own
        late = found.own - moment.own if not self.policy.accumulates else 0
        previous = order[place + 1].scattered if place + 1 < len(order) else 0
        found.scatter = found.scatter - previous + unit.scattered
        found.own = late + larger(held, more)
        found.whole = found.whole - (unit.whole if self.policy.whole_gradients and self.repeats else 0)
        if (
            moment.layer is None and not self.repeats
        ):  # an embedding by itself, whose turn is after the root's
            found.unsharded = found.unsharded - self.units.root.gathered
            found.shards = found.shards + self.units.root.shard
        return [self._event(moment, moment.end, f"sum of {moment.where}", found)]

    def _at_last(self, moment: Any) -> list[Any]:
        """The root's gradients, when the backward pass is over."""
        root = self.units.root
        found = Situation(shards=self.shards - (0 if self.repeats else root.shard))
        more = root.last + root.out + (root.shard if root.narrows else 0)
        held = root.whole if self.policy.whole_gradients and self.repeats else root.own
        found.own, found.scatter = larger(held, more), root.scattered
        if self._keeps_sums:
            found.scatter = found.scatter + add_up(unit.out for unit in self.all if unit is not root)
        return [self._event(moment, moment.end, "sum of the root", found)]

    # -- pools -----------------------------------------------------------------------------------

    def _pools(self) -> None:
        """What streams of their own reserve: two buffers to gather into, and all shards of gradients. [B]"""
        most: Quantity = 0
        for order in self.chunks:
            row = [self.units.root, *order]
            most = larger(most, self.units.root.gathered + self.units.root.cast)
            for one, two in pairwise(row):
                most = larger(most, one.gathered + two.gathered + two.cast)
        self.gather_pool = most
        sums = [unit.out for unit in self.all if unit.narrows]
        self.sum_pool: Quantity = self.shards
        if sums:
            self.sum_pool = self.shards + (add_up(sums) if self.kept else _most(sums))


def _most(values: Sequence[Quantity]) -> Quantity:
    found: Quantity = 0
    for value in values:
        found = larger(found, value)
    return found
