"""One rank's part of a model for many layouts: walks, situations and states are found once."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.many import Ranks
from llmcalc.answer.training.question import Estimate, Question
from llmcalc.estimate import Moment, add_up
from llmcalc.memory.training.model_states import States
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.memory.training.parallel.pipeline import Stage, heaviest, stages, steady
from llmcalc.memory.training.parallel.sharding import DistributedOptimizer, Sharding
from llmcalc.memory.training.trace import Walk
from llmcalc.model.inventory import Inventory

PLAIN = (Sharding, DistributedOptimizer)
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
    """

    def __init__(self) -> None:
        self.parts: dict[Any, Inventory] = {}
        self.folds: dict[Any, States] = {}
        self.shared: dict[Any, Shared] = {}
        self.stages: dict[Any, list[tuple[Stage, tuple[Chunk, ...]]]] = {}
        self.heaviest: dict[Any, Any] = {}


class Shared:
    """States of one rank as they are shared: weights, masters and states of the optimizer; gradients. [B]"""

    __slots__ = ("base", "gradients", "states", "step")

    def __init__(self, states: States, step: Any) -> None:
        self.states, self.step = states, step
        self.base = add_up(states.weights.values()) + states.master + add_up(states.optimizer.values())
        self.gradients = states.gradients


class Walked:
    """A chunk's walk in short.

    Attributes
    ----------
    saved, kept : int
        What autograd holds when the forward pass is done, and all that stays until the backward pass. [B]
    peaks : dict
        Of either pass, with gradients that last and with those that grow: the largest sum, what of it is
        activations, phase and place.
    """

    __slots__ = ("kept", "peaks", "saved")

    def __init__(self, ranks: Reused, layers: range, embedding: bool, head: bool) -> None:
        walk = Walk(ranks.run, layers, embedding, head, True, ranks.other, ranks.number)
        self.saved = walk.forward()
        self.kept = walk.saved + walk.rest + walk.logits
        number = len(walk.moments)
        walk.backward()
        self.peaks: dict[tuple[str, bool], tuple[Any, Any, str, str]] = {}
        for kind, moments in (("forward", walk.moments[:number]), ("backward", walk.moments[number:])):
            for lasts in (False, True):
                best: tuple[Any, Any, str, str] = (-1, 0, "", "")
                for one in moments:
                    total = one.activations + one.logits + one.buffers + (0 if lasts else one.gradients)
                    if total > best[0]:
                        best = total, one.activations, one.phase, one.where
                self.peaks[kind, lasts] = best


class Reused(Ranks):
    """Ranks of many layouts that run the same.

    Parameters
    ----------
    question : Question
        One of them.
    store : Store
        What all have in common.
    """

    def __init__(self, question: Question, store: Store) -> None:
        self.store = store
        asked = question.asked
        super().__init__(question, asked.batch, asked.seq, asked.choice.rank)
        # Places between equal layers don't matter, unless what comes and goes is counted there.
        self.brief = not asked.compile and not {"gradients", "activations"} & asked.offload
        self.walks: dict[Chunk, Walked] = {}
        self.standing: dict[Any, dict[str, Any]] = {}
        self.layers = self._kinds()
        self.kept_logits: Any = None
        self.is_plain = not (asked.compile or asked.offload or asked.in_backward or question.packed)

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
        for stage, _ in candidates:
            one = self.estimate(stage)
            if made is None or one.total > made.total:
                made = one
        assert made is not None
        return made, gathers

    # -- stages ---------------------------------------------------------------------------------

    def _candidates(self, mesh: Mesh) -> list[tuple[Stage, tuple[Chunk, ...]]]:
        """Stages of which one is the worst: of those with equal layers the earliest, for most waits there."""
        key = self.layers, mesh.gpus // mesh.pp, mesh.pp, mesh.vpp, mesh.stage_layers
        found = self.store.stages.get(key)
        if found is None:
            first: dict[Any, tuple[Stage, tuple[Chunk, ...]]] = {}
            for stage in stages(mesh, self.question.inventory.layers):
                chunks = tuple((self._run_lengths(span), start, end) for span, start, end in stage.chunks)
                first.setdefault((chunks, stage.index > 0), (stage, chunks))
            found = self.store.stages[key] = list(first.values())
        return found

    def _run_lengths(self, span: range) -> Kinds:
        found: list[tuple[int, int]] = []
        for kind in self.layers[span.start : span.stop]:
            if found and found[-1][0] == kind:
                found[-1] = kind, found[-1][1] + 1
            else:
                found.append((kind, 1))
        return tuple(found)

    def _fold(self, stage: Stage, experts: bool, *cut: int) -> States:
        mesh = self.mesh
        key = mesh.tp, mesh.ep, mesh.etp, tuple(span for span, _, _ in stage.chunks), experts, cut
        if key not in self.store.folds:
            self.store.folds[key] = super()._fold(stage, experts, *cut)
        return self.store.folds[key]

    # -- plain sums -----------------------------------------------------------------------------

    def _plain(self, candidates: list[tuple[Stage, tuple[Chunk, ...]]], sharding: Any) -> Estimate:
        """The worst stage where moments differ by the trace alone."""
        question, mesh = self.question, self.mesh
        lasts = question.accumulates or sharding.persistent
        most: Any = -1
        for stage, chunks in candidates:
            shared = self._shared(stage, sharding)
            standing = self._standing(stage, chunks, sharding)
            peak, activations, phase, where = self._peak(mesh, stage, chunks, lasts)
            peak = peak + shared.base + standing + (shared.gradients if lasts else 0)
            step = shared.base + shared.step + shared.gradients + standing + self.kept_logits
            if step > peak:
                peak, activations, phase, where = step, 0, "step", "optimizer"
            if peak > most:
                most, chosen = peak, (stage, activations, phase, where)
        stage, activations, phase, where = chosen
        held = {"activations": activations, "buffers": most - activations}
        made = Estimate(None, States(), [Moment(phase, where, held)], {})
        made.rank = stage.name
        question.finish(made)
        return made

    def _peak(self, mesh: Mesh, stage: Stage, chunks: tuple[Chunk, ...], lasts: bool) -> Any:
        """The most that a stage holds in a pass, beside states: sum, activations, phase and place."""
        walked = []
        for chunk, (layers, embedding, head) in zip(chunks, stage.chunks, strict=True):
            if chunk not in self.walks:
                self.walks[chunk] = Walked(self, layers, embedding, head)
            walked.append(self.walks[chunk])
        best: Any = (-1, 0, "", "")
        saved: Any = 0
        kept = [one.kept for one in walked]
        for kind, chunk, situations in self._heaviest(mesh, stage.index):
            others = max(sum(map(int.__mul__, waiting, kept)) for waiting in situations)
            saved = max(saved, walked[chunk].saved + others)
            total, activations, phase, where = walked[chunk].peaks[kind, lasts]
            if total + others > best[0]:
                best = total + others, activations + others, phase, where
        return best[0], min(best[1], saved), best[2], best[3]

    def _heaviest(self, mesh: Mesh, stage: int) -> Any:
        key = mesh.pp, mesh.vpp, mesh.schedule, steady(mesh), stage
        found = self.store.heaviest.get(key)
        if found is None:
            found = self.store.heaviest[key] = heaviest(mesh, stage)
        return found

    def _shared(self, stage: Stage, sharding: Any) -> Shared:
        mesh = self.mesh
        spans = tuple(span for span, _, _ in stage.chunks)
        key = (
            mesh.tp, mesh.ep, mesh.etp, mesh.replicas, mesh.expert_replicas, spans, sharding.shared,
        )  # fmt: skip
        found = self.store.shared.get(key)
        if found is None or self.kept_logits is None:
            parts = [
                (self._fold(stage, experts), ranks)
                for experts, ranks in ((False, mesh.replicas), (True, mesh.expert_replicas))
                if not experts or mesh.ep > 1
            ]
            states = sharding.share(parts)
            layout = self.question.layout(self.plan, states)
            self.kept_logits = layout.kept_logits
            found = self.store.shared[key] = Shared(states, layout.step)
        return found

    def _standing(self, stage: Stage, chunks: tuple[Chunk, ...], sharding: Any) -> Any:
        """Buffers that are there all the time. [B]"""
        key = type(sharding), tuple(dict.fromkeys(chunks)), stage.is_first, stage.is_last, stage.index > 0
        found = self.standing.get(key)
        if found is None:
            sharding.begin(self.question, self.model, stage, ())
            found = self.standing[key] = add_up(sharding.standing.values())
        return found
