"""One rank's part of a model for many layouts: walks, situations and states are found once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import mul
from typing import Any

from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.many import Ranks
from llmcalc.answer.training.question import Estimate, Question
from llmcalc.estimate import Moment, add_up
from llmcalc.memory.training.model_states import States
from llmcalc.memory.training.parallel.ddp import DataParallel
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.memory.training.parallel.pipeline import Stage, exceed, heaviest, stages, steady
from llmcalc.memory.training.parallel.sharding import DistributedOptimizer, Sharding
from llmcalc.memory.training.plan import Plan
from llmcalc.memory.training.stretches import Model
from llmcalc.memory.training.trace import Walk
from llmcalc.memory.training.trainable import Training
from llmcalc.model.inventory import Inventory

PLAIN = (Sharding, DataParallel, DistributedOptimizer)
"""Ways of sharing that add nothing from moment to moment."""

Kinds = tuple[tuple[int, int], ...]
"""Layers in order: which kind, and how many of it follow each other."""

Chunk = tuple[Kinds, bool, bool]


class Store:
    """What holds for all layouts of a question.

    Attributes
    ----------
    parts : dict
        Slices of the model.
    folds, shared : dict
        States of a stage, whole and as shared.
    stages, heaviest : dict
        Of pipelines.
    models : dict
        What was run, to be cleared from time to time.
    """

    def __init__(self) -> None:
        self.parts: dict[Any, Inventory] = {}
        self.folds: dict[Any, States] = {}
        self.shared: dict[Any, Shared] = {}
        self.stages: dict[Any, list[Candidate]] = {}
        self.heaviest: dict[Any, Any] = {}
        self.models: dict[Any, Model] = {}


class Candidate:
    """A stage that may be the worst, with its chunks by the kinds of their layers."""

    __slots__ = ("alike", "places", "spans", "stage", "unlike")

    def __init__(self, stage: Stage, chunks: tuple[Chunk, ...]) -> None:
        self.stage = stage
        self.spans = tuple(span for span, _, _ in stage.chunks)
        self.unlike: dict[Chunk, range] = {}
        for chunk, span in zip(chunks, self.spans, strict=True):
            self.unlike.setdefault(chunk, span)
        order = list(self.unlike)
        self.places = tuple(order.index(chunk) for chunk in chunks)
        self.alike = frozenset(chunks), stage.index > 0


class Shared:
    """States of one rank as they are shared: weights, masters and states of the optimizer; gradients. [B]"""

    __slots__ = ("base", "gradients", "states", "step")

    def __init__(self, states: States, step: Any) -> None:
        self.states, self.step = states, step
        self.base = add_up(states.weights.values()) + states.master + add_up(states.optimizer.values())
        self.gradients = states.gradients


Peak = tuple[Any, Any, str]
"""The largest sum of a pass, what of it is activations, and the phase. [B]"""

LAYERS = 5
"""Layers of one kind from which on a walk passes over those in the middle. [-]"""


class Walked:
    """A chunk's walk in short.

    Attributes
    ----------
    saved, kept : int
        What autograd holds when the forward pass is done, and all that stays until the backward pass. [B]
    peaks : dict
        Of either pass, with gradients that last (True) and with those that grow.
    """

    __slots__ = ("kept", "peaks", "saved")

    def __init__(self, saved: Any, kept: Any, told: list[Told]) -> None:
        self.saved, self.kept = saved, kept
        self.peaks: dict[tuple[str, bool], Peak] = {}
        for lasts in (False, True):
            for kind in ("forward", "backward"):
                self.peaks[kind, lasts] = (-1, 0, "")
            for pass_, phase, activations, beside, gradients in told:
                total = activations + beside + (0 if lasts else gradients)
                if total > self.peaks[pass_, lasts][0]:
                    self.peaks[pass_, lasts] = total, activations, phase


Told = tuple[str, str, Any, Any, Any]
"""Of a moment: the pass, its phase, activations, logits and buffers, and gradients of parameters. [B]"""


def walked(ranks: Ranks, layers: Any, embedding: bool, head: bool) -> Walked:
    """Walk through a chunk."""
    return Walked(*_walk(ranks, layers, embedding, head, lambda layer: True))


def straight(ranks: Ranks, layers: Any, embedding: bool, head: bool) -> Straight:
    """The same of layers of one kind, of which the first and the last are told.

    Layers that are run in the other way are a kind of their own.
    """
    start = ranks.number
    ends = {None, layers[0], layers[-1], *((layers[start - 1], layers[start]) if start else ())}
    return Straight(*_walk(ranks, layers, embedding, head, ends.__contains__))


def _walk(
    ranks: Ranks, layers: Any, embedding: bool, head: bool, tells: Callable[[int | None], bool]
) -> tuple[Any, Any, list[Told]]:
    walk = Walk(ranks.run, layers, embedding, head, True, ranks.other, ranks.number)
    saved = walk.forward()
    kept, number = walk.saved + walk.rest + walk.logits, len(walk.moments)
    walk.backward()
    told: list[Told] = [
        (
            "forward" if place < number else "backward", one.phase, one.activations,
            one.logits + one.buffers, one.gradients,
        )
        for place, one in enumerate(walk.moments)
        if tells(one.layer)
    ]  # fmt: skip
    return saved, kept, told


class Straight:
    """A walk whose layers are of one kind: all of it grows evenly with their number."""

    __slots__ = ("kept", "saved", "told")

    def __init__(self, saved: Any, kept: Any, told: list[Told]) -> None:
        self.saved, self.kept, self.told = saved, kept, told

    def by(self, more: Straight, by: int) -> Walked:
        """With so many layers more, or fewer, where `more` has one more."""
        told: list[Told] = [
            (
                one[0], one[1], one[2] + by * (two[2] - one[2]), one[3] + by * (two[3] - one[3]),
                one[4] + by * (two[4] - one[4]),
            )
            for one, two in zip(self.told, more.told, strict=True)
        ]  # fmt: skip
        return Walked(
            self.saved + by * (more.saved - self.saved), self.kept + by * (more.kept - self.kept), told
        )


def run_lengths(kinds: Sequence[int]) -> Kinds:
    """Equal numbers that follow each other, counted.

    Examples
    --------
    >>> run_lengths([0, 0, 1, 0])
    ((0, 2), (1, 1), (0, 1))
    """
    found: list[tuple[int, int]] = []
    for kind in kinds:
        if found and found[-1][0] == kind:
            found[-1] = kind, found[-1][1] + 1
        else:
            found.append((kind, 1))
    return tuple(found)


NOTHING = States()


class Reused(Ranks):
    """Ranks of many layouts that run the same.

    Parameters
    ----------
    question : Question
        One of them.
    store : Store
        What all have in common.
    sharing : int
        Which way of sharing states, where that decides what runs; else -1. [-]
    thorough : bool
        Whether what takes long is done too.

    Attributes
    ----------
    quick : bool
        Whether there is something that takes long; `Search.refine` does it.
    """

    def __init__(self, question: Question, store: Store, sharing: int = -1, thorough: bool = False) -> None:
        self.store, self.sharing, self.thorough, self.quick = store, sharing, thorough, False
        self.hurries = not thorough
        asked = question.asked
        super().__init__(question, asked.batch, asked.seq, asked.choice.rank)
        # Places between equal layers don't matter, unless what comes and goes is counted there.
        self.brief = not self.plays and not asked.compile and not {"gradients", "activations"} & asked.offload
        self.walks: dict[Chunk, Walked] = {}
        self.standing: dict[Any, Any] = {}
        self.layers = self._kinds()
        self.pairs: dict[Any, Any] = {}
        self.longest = self._longest()
        self.straight = not isinstance(self.plan.recompute, int)
        self.kept_logits: Any = None
        self.is_plain = not (asked.compile or asked.offload or asked.in_backward or question.packed)

    @property
    def plays(self) -> bool:
        """Whether the allocator is played through, where that is known: it takes long."""
        return self.quick and self.thorough

    @plays.setter
    def plays(self, wanted: bool) -> None:
        self.quick = wanted

    def ran(self, plan: Training) -> Model:
        """The stretches of that part, which other ways to recompute have in common."""
        mesh = self.mesh
        settings = [getattr(plan, name) for name in Plan.__slots__ if name != "mesh"]
        key = (
            self.sharing, mesh.tp, mesh.sequence_parallel, mesh.cp, mesh.ep, mesh.etp, *settings,
        )  # fmt: skip
        if key not in self.store.models:
            self.store.models[key] = super().ran(plan)
        return self.store.models[key]

    def sliced(self, inventory: Inventory) -> Inventory:
        """The part of a model that one tensor and expert rank holds, made once."""
        mesh = self.mesh
        key = id(inventory), mesh.tp, mesh.ep, mesh.etp
        if key not in self.store.parts:
            self.store.parts[key] = super().sliced(inventory)
        return self.store.parts[key]

    def _kinds(self) -> tuple[int, ...]:
        known: dict[int, int] = {}
        return tuple(known.setdefault(id(stretch), len(known)) for _, stretch in self.run.order)

    def _longest(self) -> dict[int, range]:
        """Layers of one kind that follow each other, where there are enough of them to tell of any number."""
        found: dict[int, range] = {}
        start = 0
        for kind, number in run_lengths(self.layers):
            layers = range(start, start + number)
            whole = self.run.order[start][1].run.group.stored is None
            if number > LAYERS and whole and len(found.get(kind, ())) < number:
                found[kind] = layers
            start += number
        return found

    def worst(self, asked: Asked) -> tuple[Estimate, bool]:
        """The class of ranks that needs most, and whether weights are shared."""
        mesh = asked.mesh
        assert mesh is not None
        self.mesh = self.plan.mesh = mesh
        self.question.asked = asked
        sharding = asked.sharding(asked)
        gathers = "weights" in sharding.shared
        candidates = self._candidates(mesh)
        if self.is_plain and type(sharding) in PLAIN:
            return self._plain(candidates, sharding), gathers
        made = None
        for candidate in candidates:
            one = self.estimate(candidate.stage)
            if made is None or one.total > made.total:
                made = one
        assert made is not None
        return made, gathers

    # -- stages ---------------------------------------------------------------------------------

    def _candidates(self, mesh: Mesh) -> list[Candidate]:
        """Stages of which one is the worst: of those with equal layers the earliest, for most waits there."""
        key = self.layers, mesh.gpus // mesh.pp, mesh.pp, mesh.vpp, mesh.stage_layers
        found = self.store.stages.get(key)
        if found is None:
            first: dict[Any, Candidate] = {}
            for stage in stages(mesh, self.question.inventory.layers):
                chunks = tuple(
                    (run_lengths(self.layers[span.start : span.stop]), start, end)
                    for span, start, end in stage.chunks
                )
                first.setdefault((chunks, stage.index > 0), Candidate(stage, chunks))
            found = self.store.stages[key] = list(first.values())
        return found

    def _fold(self, stage: Stage, experts: bool, *cut: int) -> States:
        mesh = self.mesh
        key = mesh.tp, mesh.ep, mesh.etp, tuple(span for span, _, _ in stage.chunks), experts, cut
        if key not in self.store.folds:
            self.store.folds[key] = super()._fold(stage, experts, *cut)
        return self.store.folds[key]

    # -- plain sums -----------------------------------------------------------------------------

    def _plain(self, candidates: list[Candidate], sharding: Any) -> Estimate:
        """The worst stage where moments differ by the trace alone."""
        question, mesh = self.question, self.mesh
        lasts = question.accumulates or sharding.persistent
        most: Any = -1
        for candidate in candidates:
            shared = self._shared(candidate, sharding)
            standing = self._standing(candidate, sharding) + sharding.buckets(shared.gradients)
            peak, activations, phase = self._peak(mesh, candidate, lasts)
            peak = peak + shared.base + standing + (shared.gradients if lasts else 0)
            step = shared.base + shared.step + shared.gradients + standing + self.kept_logits
            if step > peak:
                peak, activations, phase = step, 0, "step"
            if peak > most:
                most, chosen = peak, (candidate.stage, activations, phase)
        stage, activations, phase = chosen
        held = {"activations": activations, "buffers": most - activations}
        made = Estimate(None, NOTHING, [Moment(phase, "", held)], {})
        made.rank = stage.name
        question.finish(made)
        return made

    def _peak(self, mesh: Mesh, candidate: Candidate, lasts: bool) -> tuple[Any, Any, str]:
        """The most that a stage holds in a pass, beside states: sum, activations and phase."""
        walks = self.walks
        found = [walks.get(chunk) or self._walk(chunk, span) for chunk, span in candidate.unlike.items()]
        kept = [one.kept for one in found]
        best, activations, phase, saved = -1, 0, "", 0
        for kind, one, situations in self._heaviest(mesh, candidate):
            others = max(sum(map(mul, waiting, kept)) for waiting in situations)
            walk = found[one]
            if walk.saved + others > saved:
                saved = walk.saved + others
            peak = walk.peaks[kind, lasts]
            if peak[0] + others > best:
                best, activations, phase = peak[0] + others, peak[1] + others, peak[2]
        return best, min(activations, saved), phase

    def _walk(self, chunk: Chunk, span: range) -> Walked:
        """The walk through a chunk, from two others where its layers are of one kind."""
        kinds, embedding, head = chunk
        longest = self.longest.get(kinds[0][0]) if len(kinds) == 1 and kinds[0][1] > self.number else None
        least = LAYERS + self.number
        if longest is None or len(longest) <= least or not self.straight:
            made = walked(self, span, embedding, head)
        else:
            key = kinds[0][0], embedding, head
            if key not in self.pairs:
                self.pairs[key] = [
                    straight(self, longest[:number], embedding, head) for number in (least, least + 1)
                ]
            first, second = self.pairs[key]
            made = first.by(second, kinds[0][1] - least)
        self.walks[chunk] = made
        return made

    def _heaviest(self, mesh: Mesh, candidate: Candidate) -> Any:
        """What may run, of which kind of chunk, and micro-batches of each kind that may wait meanwhile."""
        key = mesh.pp, mesh.vpp, mesh.schedule, steady(mesh), candidate.stage.index, candidate.places
        found = self.store.heaviest.get(key)
        if found is None:
            merged: dict[tuple[str, int], list[tuple[int, ...]]] = {}
            for kind, chunk, situations in heaviest(mesh, candidate.stage.index):
                known = merged.setdefault((kind, candidate.places[chunk]), [])
                for waiting in situations:
                    numbers = [0] * len(candidate.unlike)
                    for place, number in zip(candidate.places, waiting, strict=True):
                        numbers[place] += number
                    exceed(known, tuple(numbers))
            found = self.store.heaviest[key] = [(kind, one, most) for (kind, one), most in merged.items()]
        return found

    def _shared(self, candidate: Candidate, sharding: Any) -> Shared:
        mesh, stage = self.mesh, candidate.stage
        key = (
            mesh.tp, mesh.ep, mesh.etp, mesh.replicas, mesh.expert_replicas, candidate.spans, sharding.shared,
        )  # fmt: skip
        found = self.store.shared.get(key)
        if found is None or self.kept_logits is None:
            states = sharding.share(self.parts(stage, sharding))
            layout = self.question.layout(self.plan, states)
            self.kept_logits = layout.kept_logits
            found = self.store.shared[key] = Shared(states, layout.step)
        return found

    def _standing(self, candidate: Candidate, sharding: Any) -> Any:
        """Buffers that are there all the time. [B]"""
        key = type(sharding), candidate.alike
        found = self.standing.get(key)
        if found is None:
            sharding.begin(self.question, self.model, candidate.stage, ())
            found = self.standing[key] = add_up(sharding.standing.values())
        return found
