"""DeepSpeed's ZeRO: what its optimizers allocate at each stage, read from their code (release 0.19).

Stages 1 and 2 lay the trained weights end to end, give each rank an equal part to update, and gather the
updated weights in place. Stage 3 cuts every tensor among all ranks and makes it whole while it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.estimate import add_up
from llmcalc.formula import Quantity, ceil_div, larger, smaller
from llmcalc.memory.training.model_states import States
from llmcalc.memory.training.parallel.prefetch import EMBEDDING, HEAD, Place, sums, widest_overlap
from llmcalc.memory.training.parallel.sharding import Part, Sharding, combined
from llmcalc.memory.training.parallel.zero_settings import ZeroSettings
from llmcalc.memory.training.parallel.zero_tensors import Tensors

WHOLE_SUM = 500_000_000
"""Elements of gradients that are summed at once without sharing. [-]"""

SEARCH, NORM = 11, 8
"""Bytes of an element while infinities are looked for (in fp32, with three masks and one of them in fp32) and
while a norm is taken (in fp64), one tensor at a time. [B]"""

FROZEN_GROUP = 8_000
"""Elements of frozen weights in 8 bit that share a scale. [-]"""


class Zero(Sharding):
    """Stage 0: every rank holds everything, and steps on flat copies in fp32.

    Parameters
    ----------
    settings : ZeroSettings
        What DeepSpeed was told.

    Attributes
    ----------
    ranks : int
        GPUs that share one copy. [-]
    element, communicated : int
        Bytes of a trained weight and its gradient, and of a gradient as it is summed. [B]
    masters : bool
        Whether the weights have fp32 copies of their own by the precision.
    away : bool
        Whether the optimizer lies off the device.
    """

    takes_gradients = False
    replays = True

    def __init__(self, settings: ZeroSettings) -> None:
        super().__init__()
        self.settings, self.name = settings, f"ZeRO-{settings.stage}"
        self.ranks = 1
        self.element = self.communicated = 2
        self.masters = self.away = self.accumulates = False
        self.part: Quantity = 0

    def begin(self, question: Any, model: Any, stage: Any, parts: Sequence[Part]) -> None:
        """Learn of the tensors, the ranks that share them, and the precision."""
        asked = question.asked
        self.question, self.whole = question, combined(parts, ())
        self.ranks = parts[0][1] if self.settings.shard < 1 else min(self.settings.shard, parts[0][1])
        recipe, adapted = asked.recipe, asked.choice.leaves_model
        self.element = asked.choice.adapter_bytes if adapted else recipe.weights
        self.communicated = self.settings.communication_element or self.element
        self.masters = bool(recipe.master) and self.element < 4
        self.away, self.accumulates = self.settings.optimizer.away, asked.accumulate > 1
        layers = {layer for span, _, _ in stage.chunks for layer in span}
        plan = question.plan(asked.batch, question.local_tokens, asked.choice.rank, model)
        self.tensors = Tensors(model, layers, plan, stage.is_first, stage.is_last)
        self.part = ceil_div(self.whole.trained, self.ranks)
        self.largest = max((size for _, size in self.tensors.trained), default=0)

    def share(self, parts: Sequence[Part]) -> States:
        """All of it on every rank."""
        return combined(parts, self.shared)

    def at(self, moment: Any) -> tuple[Quantity, Quantity, Quantity]:
        """Gradients as they come; when all are there they are summed through a copy of some."""
        copy: Quantity = 0
        if self.ranks > 1 and _last(moment):
            copy = smaller(self.whole.trained, WHOLE_SUM) * self.communicated
        return moment.gradients, 0, copy

    def step(self, states: States) -> Quantity:
        """Gradients in fp32: each by itself, then all of them end to end."""
        if not self.masters:
            return 0
        temporaries = self._temporaries(states.trained_bytes, states)
        return larger(8 * self.whole.trained, 2 * self.whole.trained + temporaries) - temporaries

    def _temporaries(self, trained: Quantity, states: States) -> Quantity:
        """What the optimizer itself takes while it steps. [B]"""
        made: Quantity = self.question.asked.optimizer.step_bytes(trained, states.largest, states.element)
        return made

    def settle(self, layout: Any, states: States) -> None:
        """At the beginning the weights are cloned, and laid end to end."""
        self.states = states
        if self.masters:
            layout.load = layout.load + 2 * self.whole.trained * self.element

    def at_load(self, pool: Any) -> None:
        """Weights as they are loaded; those that are trained are laid end to end."""
        total = int(most(self.whole.total))
        bytes_ = int(most(add_up(self.whole.weights.values())))
        adapted = self.question.asked.choice.leaves_model
        tensors = list(self.tensors.stored.items())
        for name, size in tensors:
            pool.take(name, -(-size * bytes_ // max(total, 1)))
        flat = int(most(self.whole.trained)) * self.element
        pool.take("trained weights", flat)
        if not adapted:
            for name, _ in tensors:
                pool.drop(name)
        pool.take("masters", 4 * int(most(self.part)) if self.masters or self.settings.stage else 0)

    def at_step(self, pool: Any, first: bool) -> None:
        """Gradients in fp32, and the optimizer."""
        wide = 4 * int(most(self.whole.trained)) if self.masters else 0
        pool.take("gradients by tensor", wide)
        pool.take("gradients", wide)
        pool.drop("gradients by tensor")
        self._update(pool, first, int(most(self.whole.trained)))
        pool.drop("gradients")

    def _update(self, pool: Any, first: bool, elements: int) -> None:
        """The optimizer's states, the first time, and what it takes besides."""
        if first:
            for name, size in self.states.optimizer.items():
                pool.take(f"state {name}", int(most(size)))
        element = 4 if self.masters else self.element
        pool.take("temporaries", int(most(self._temporaries(elements * element, self.states))))
        pool.drop("temporaries")

    def host(self, states: States) -> dict[str, Quantity]:
        """What lies in the machine's own memory, for each rank. [B]"""
        return {}


class ZeroOne(Zero):
    """Stage 1: masters and states of the optimizer are cut; gradients are whole until they are summed."""

    shared: tuple[str, ...] = ("master", "optimizer")

    def begin(self, question: Any, model: Any, stage: Any, parts: Sequence[Part]) -> None:
        """Count what waits in buckets, and what reaches into a rank's part."""
        super().begin(question, model, stage, parts)
        self.takes_gradients = question.asked.takes_gradients
        bucket = self.settings.reduce_bucket
        backward = [*reversed(self.tensors.trained)]
        self.copies = sums(backward, bucket, True) if self.settings.reduce_scatter else {}
        sizes = [size for _, size in self.tensors.trained]
        self.edges = max(widest_overlap(sizes, self.ranks) - int(most(self.part)), 0)
        if self.away:
            self.standing["gradient on its way to the host"] = self.largest * self.element
        # bf16 with sums in fp32 has an optimizer of its own, whose fp32 gradients are always there.
        self.persistent = self.stage_one_wide and not self.away and "fp16" not in question.asked.recipe.name

    @property
    def stage_one_wide(self) -> bool:
        """Whether gradients of 16-bit weights are accumulated in fp32, which stage 2 does not do."""
        wide = (self.settings.gradient_element or self.element) > self.element
        return wide and self.settings.stage == 1

    def share(self, parts: Sequence[Part]) -> States:
        """Each rank's part; the last one's is filled up so that all are equal."""
        made = super().share(parts)
        if not self.masters:  # the part that is updated is a copy all the same
            made.master = made.master + ceil_div(self.whole.trained * self.element, self.ranks)
        if self.stage_one_wide:
            made.gradients = made.gradients // self.element * (4 + self.element if self.persistent else 4)
        if self.away and self.settings.stage == 2:
            made.gradients = 0
        return made

    def _buckets(self, moment: Any) -> Quantity:
        """Buckets, which come with the first gradient, and the copy that is summed. [B]"""
        if moment.phase != "backward":
            return 0
        number = 2 if self.settings.overlaps else 1
        held = number * self.settings.reduce_bucket * self.element
        if self.takes_gradients or _last(moment):
            copied = self.copies.get(place_of(moment), 0)
            wider = self.communicated if self.communicated != self.element else 0
            held += copied * (self.element + wider)
        return held

    def at(self, moment: Any) -> tuple[Quantity, Quantity, Quantity]:
        """All gradients, and when all are there this rank's part of them once more."""
        more = self._buckets(moment)
        if _last(moment) and not self.away:
            more = more + (self.part + self.edges) * self.element
        return moment.gradients, 0, more

    def left(self, held: Quantity) -> Quantity:
        """A rank's part of the gradients, and what else of its tensors was copied along."""
        if self.away:
            return 0
        if self.stage_one_wide:
            return held
        return (self.part + self.edges) * self.element

    def step(self, states: States) -> Quantity:
        """The part end to end, then in fp32; before, a search for infinities and a norm, each by tensor."""
        trained = states.trained_bytes
        temporaries = self._temporaries(trained, states)
        if self.away or self.persistent:
            return 0
        flat = self.part * self.element
        wide = 4 * self.part if self.element < 4 else 0
        piece = smaller(self.largest, self.part) * (SEARCH if self.settings.checks_overflow else NORM)
        after = larger(4 * self.part - flat, 0) + temporaries
        return larger(larger(flat + wide, piece), after) - temporaries

    def settle(self, layout: Any, states: States) -> None:
        """At the beginning all weights are copied into one, where there is room for both."""
        self.states = states
        device, flat = self.question.device, self.whole.trained * self.element
        weights = add_up(states.weights.values())
        if device is None or int(most(weights + flat)) <= device.usable_bytes:
            layout.load = larger(layout.load, flat)

    def at_gradients(self, pool: Any) -> None:
        """Buckets, and at stage 2 this rank's part."""
        for number in range(2 if self.settings.overlaps else 1):
            pool.take(f"bucket {number}", self.settings.reduce_bucket * self.element)
        if self.settings.stage == 2:
            self._own(pool)

    def _own(self, pool: Any) -> None:
        pool.take("own gradients", 0 if self.away else (int(most(self.part)) + self.edges) * self.element)

    def at_end(self, pool: Any) -> None:
        """Stage 1 sums now; buckets go."""
        if self.settings.stage == 1:
            self._own(pool)
        if not self.settings.overlaps:
            pool.take("sum", max(self.copies.values(), default=0) * self.element)
            pool.drop("sum")
        for number in range(2):
            pool.drop(f"bucket {number}")

    def at_step(self, pool: Any, first: bool) -> None:
        """A search by tensor, gradients end to end, in fp32; the optimizer."""
        if self.away:
            return
        part = int(most(self.part))
        piece = min(self.largest, part) * (SEARCH if self.settings.checks_overflow else NORM)
        pool.take("search", piece)
        pool.drop("search")
        pool.take("flat", part * self.element)
        if self.element < 4:
            pool.take("wide", 4 * part)
            pool.drop("flat")
        pool.drop("own gradients")
        self._update(pool, first, part)
        pool.drop("wide")
        pool.drop("flat")

    def beside(self) -> int:
        """Copies that are summed, where that is done beside the backward pass."""
        return max(self.copies.values(), default=0) * self.element if self.settings.overlaps else 0

    def host(self, states: States) -> dict[str, Quantity]:
        """Masters, gradients in fp32, states, and weights on their way back, all of this rank's part."""
        if not self.away:
            return {}
        from llmcalc.memory.training.parallel.zero_host import pinned

        largest = self.largest * self.element
        held: dict[str, Quantity] = {
            "optimizer": states.master + add_up(states.optimizer.values()),
            "gradients": 4 * self.part,
            "weights on their way back": self.part * self.element,
            "gradient buffer": largest,
        }
        if self.accumulates:
            held["accumulated gradients"] = (self.part + self.edges) * self.element
        if self.settings.optimizer.pinned:
            sizes = [states.master, held["gradients"], held["weights on their way back"], largest]
            held["rounding of pinned memory"] = pinned(sizes)
        return held


class ZeroTwo(ZeroOne):
    """Stage 2: each gradient is summed as soon as a bucket is full, and kept by its owner alone."""

    shared = ("master", "optimizer", "gradients")

    def at(self, moment: Any) -> tuple[Quantity, Quantity, Quantity]:
        """A rank's part, and gradients that have not yet left for a bucket."""
        more = self._buckets(moment)
        if moment.phase != "backward" or self.away:
            return moment.gradients, 0, more
        own = self.part * self.element
        more = more + self.edges * self.element
        if self.accumulates:  # added to those of the micro-batches before when all are there
            more = more + own + moment.gradients
        return own + moment.gradients, 0, more


def place_of(moment: Any) -> Place:
    """Phase and layer of a moment, as the order of modules has them."""
    layer = moment.layer
    if layer is None:
        layer = EMBEDDING if moment.where == "embedding" else HEAD
    return moment.phase, layer


def _last(moment: Any) -> bool:
    """Whether it is the last of the backward pass."""
    return bool(moment.phase == "backward" and moment.layer is None)


def most(value: Any) -> Any:
    return value.max() if hasattr(value, "max") else value


def zero_sharding(settings: ZeroSettings) -> Zero:
    """The way of sharing of a stage."""
    if settings.stage == 3:
        from llmcalc.memory.training.parallel.zero_three import ZeroThree

        return ZeroThree(settings)
    return (Zero, ZeroOne, ZeroTwo)[settings.stage](settings)


__all__ = ["Zero", "ZeroOne", "ZeroTwo", "zero_sharding"]
