"""A step on several GPUs: every class of ranks, the worst of which decides."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.beside import put_beside
from llmcalc.answer.training.question import Estimate, Question
from llmcalc.answer.training.reserved import allocator_slack, pools_slack
from llmcalc.errors import ConfigError, InputError
from llmcalc.estimate import add_up
from llmcalc.formula import Quantity, ceil_div, is_array
from llmcalc.memory.training.branches import replaced
from llmcalc.memory.training.parallel.pipeline import Stage, stages
from llmcalc.memory.training.parallel.ranks import trace_stage
from llmcalc.memory.training.parallel.sharding import Part
from llmcalc.memory.training.parallel.slices import part_of, sliced
from llmcalc.memory.training.stretches import Model
from llmcalc.memory.training.timeline import moments
from llmcalc.memory.training.trainable import Training
from llmcalc.model.inventory import Inventory


class Ranks:
    """One tensor rank's part of a model, run once for all stages.

    Parameters
    ----------
    question : Question
        What was asked.
    batch, seq, rank : int or ndarray
        Sequences, tokens of each, rank of adapters. [-], [tokens], [-]

    Attributes
    ----------
    model, stored : Inventory
        That part, as it is computed with and as it is stored.
    run : Model
        Its stretches.
    brief : bool
        Whether of equal layers only those at the ends are looked at: the peak is the same.
    hurries : bool
        Whether nothing is played through the allocator.
    plays : bool
        Whether it is.
    """

    brief = hurries = False

    def __init__(self, question: Question, batch: Quantity, seq: Quantity, rank: Quantity) -> None:
        asked = question.asked
        mesh = asked.mesh
        assert mesh is not None
        self.question, self.mesh, self.batch, self.seq, self.rank = question, mesh, batch, seq, rank
        question.local_tokens = self.tokens = ceil_div(seq, mesh.cp)
        self.model = self.sliced(question.inventory)
        self.stored = self.model if question.stored is question.inventory else self.sliced(question.stored)
        self.adapter_bytes = asked.choice.adapter_bytes
        self.plan: Any = question.plan(batch, self.tokens, rank, self.model)
        self.other: Model | None = None
        self.number = 0
        if isinstance(self.plan.recompute, str) and self.plan.recompute.startswith("first-"):
            self.number = int(self.plan.recompute[6:])
            self.other = self.ran(replaced(self.plan, recompute="full"))
            self.plan = replaced(self.plan, recompute="none")
        whole = not isinstance(self.plan.recompute, int) and self.other is None
        self.plays = (
            (asked.zero is not None or (asked.policy is not None and whole))
            and not any(is_array(value) for value in (batch, seq, rank))
            and not question.others  # whose passes are not played
            and asked.metric != "memtracker"
        )
        self.plan.logs = self.plays and asked.policy is not None
        self.run = self.ran(self.plan)

    def ran(self, plan: Training) -> Model:
        """The stretches of that part, run as planned."""
        made = Model(self.model, plan)
        try:
            made.run()
        except (NotImplementedError, KeyError):
            raise ConfigError(
                f"What {self.question.inventory.name} keeps for the backward pass is not known.",
                "Use a model of another family; --params N tells the states of any.",
            ) from None
        return made

    def sliced(self, inventory: Inventory) -> Inventory:
        """The part of a model that one tensor and expert rank holds."""
        mesh, pads = self.mesh, self.question.asked.implementation == "megatron"
        return sliced(inventory, mesh.tp, mesh.ep, mesh.etp, pads)

    def estimate(self, stage: Stage) -> Estimate:
        """The step on one class of ranks."""
        question, mesh, asked = self.question, self.mesh, self.question.asked
        sharding = asked.sharding(asked)
        # What ZeRO holds differs from layer to layer, so that arrays of them can't be merged.
        each = sharding.replays and (is_array(self.batch) or is_array(self.tokens))
        found = trace_stage(
            self.run, mesh, stage, self.brief, self.other, self.number, sharding.by_rows or each
        )  # fmt: skip
        parts = self.parts(stage, sharding)
        question.local_ranks = self
        sharding.begin(question, self.model, stage, parts)
        states = sharding.share(parts)
        layout = question.layout(self.plan, states)
        layout.sharding = sharding
        layout.persistent = layout.persistent or sharding.persistent
        layout.step = layout.step + sharding.step(states)
        sharding.settle(layout, states)
        weights = dict(states.weights)
        frozen = put_beside(self, stage, sharding, layout, weights)
        timeline = moments(found, states, add_up(weights.values()), layout)
        made = Estimate(found, states, timeline, weights)
        made.rank, made.standing = stage.name, sharding.standing
        own = sharding.host(states)
        made.host = question.host(states, weights, found)
        if own is not None:
            made.host = {key: made.host[key] for key in made.host if key.startswith(("activ", "paged"))} | own
            if "params" in asked.offload and question.others:
                made.host["weights"] = made.host.get("weights", 0) + frozen
        slack = None if self.hurries else allocator_slack(question, self.model, self.plan, made, sharding)
        if sharding.has_pools:
            reserved = self._reserved(stage, sharding, states, layout) if self.plays else layout.reserved
            slack = pools_slack(made.allocated, reserved, self.plays)
        question.finish(made, slack)
        return made

    def parts(self, stage: Stage, sharding: Any) -> list[Part]:
        """States of a stage before they are shared, and how many ranks hold the same of each part."""
        mesh = self.mesh
        return [
            (self._fold(stage, experts, sharding.cut(ranks)), ranks)
            for experts, ranks in ((False, mesh.replicas), (True, mesh.expert_replicas))
            if not experts or mesh.ep > 1
        ]

    def _reserved(self, stage: Stage, sharding: Any, states: Any, layout: Any) -> int:
        """What the allocator reserves, all streams together. [B]"""
        from llmcalc.memory.training.parallel.replay import Replay
        from llmcalc.memory.training.runtime import CONTEXT

        device, room = self.question.device, None
        if device is not None:
            room = int(device.usable_bytes) - CONTEXT[1] - self.question.nccl()[1]
        replay = Replay(self.run, self.mesh, stage, room, self.question.asked.expandable)
        trained = sharding.tensors()
        whole = sum(trained)
        away = layout.offload

        def parts(*sizes: Any) -> list[int]:
            return [int(size) * one // max(whole, 1) for size in sizes for one in trained]

        kept = [] if "params" in away else [*trained, int(add_up(states.weights.values())) - whole]
        kept += [int(bytes_) for bytes_ in sharding.standing.values()]
        held = [] if "optimizer" in away else parts(*states.optimizer.values())
        step = [] if "optimizer" in away else parts(layout.step)
        return replay.reserved(sharding.player(replay.main), kept, held, step)

    def _fold(self, stage: Stage, experts: bool, cut: int = 1) -> Any:
        """States of the stage's layers, cut among so many ranks: of routed experts, or of all else."""
        layers = stage_layers(stage)
        only = experts if self.mesh.ep > 1 else None
        part = part_of(self.stored, layers, stage.is_first, stage.is_last, only)
        plan = self.question.plan(self.batch, self.tokens, self.rank, part)
        plan.layers = self.question.inventory.layers
        plan.states, plan.choice.adapter_bytes = self.question.asked.recipe, self.adapter_bytes
        return self.question.fold(part, plan, cut)


def stage_layers(stage: Stage) -> frozenset[int]:
    """Indices of all layers of a stage."""
    return frozenset(layer for layers, _, _ in stage.chunks for layer in layers)


def estimate_many(
    question: Question, batch: Quantity | None, seq: Quantity | None, rank: Quantity | None
) -> Estimate:
    """The worst class of ranks, with all of them in its `ranks`."""
    asked = question.asked
    ranks = Ranks(
        question,
        asked.batch if batch is None else batch,
        asked.seq if seq is None else seq,
        asked.choice.rank if rank is None else rank,
    )
    found = [(stage, ranks.estimate(stage)) for stage in stages(ranks.mesh, question.inventory.layers)]
    worst = found[0][1]
    for _, one in found[1:]:
        if int(_most(one.total)) > int(_most(worst.total)):
            worst = one
    if any(is_array(one.total) and bool((one.total > worst.total).any()) for _, one in found):
        raise InputError(
            "Which stage needs most is not the same for all values of the array.",
            "Give single numbers, or arrays for which one stage is the worst.",
        )
    worst.ranks = found
    return worst


def _most(value: Quantity) -> Any:
    return value.max() if is_array(value) else value


__all__ = ["Ranks", "estimate_many", "stage_layers"]
