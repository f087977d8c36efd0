"""A step on one class of ranks: its layers, and what other micro-batches keep meanwhile."""

from __future__ import annotations

from llmcalc.estimate import add_up
from llmcalc.formula import Quantity, larger
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.memory.training.parallel.pipeline import Stage, events
from llmcalc.memory.training.stretches import Model
from llmcalc.memory.training.trace import Moment, Trace, Walk


def trace_stage(
    model: Model, mesh: Mesh, stage: Stage, brief: bool = False, other: Model | None = None,
    number: int = 0, edged: bool = False,
) -> Trace:  # fmt: skip
    """What a pipeline stage holds in the step, moment by moment.

    Parameters
    ----------
    model : Model
        One tensor rank's part of the model, whose stretches have run.
    mesh : Mesh
        The layout.
    stage : Stage
        Which layers.
    brief : bool
        Whether of many equal layers only those at the ends are told.
    other, number : Model or None, int
        The same with recomputation, and how many layers of each chunk are run so.
    edged : bool
        As of `Walk`.

    Returns
    -------
    Trace
        As of one GPU; what waiting micro-batches keep is among the activations.
    """
    forward: list[list[Moment]] = []
    backward: list[list[Moment]] = []
    kept: list[Quantity] = []
    saved: list[Quantity] = []
    parts: dict[str, Quantity] = {}
    held = waiting_most(mesh, stage.index)
    grade, untraced = "derived", model.untraced()
    for place, (layers, embedding, head) in enumerate(stage.chunks):
        walk = Walk(model, layers, embedding, head, brief, other, number, edged)
        saved.append(walk.forward())
        kept.append(walk.saved + walk.rest + walk.logits)
        for label, bytes_ in () if brief else walk.parts().items():
            parts[label] = parts.get(label, 0) + bytes_ * (1 + held[place])
        told = len(walk.moments)
        walk.backward()
        forward.append(walk.moments[:told])
        backward.append(walk.moments[told:])
    beside: dict[tuple[str, int], Quantity] = {}
    for kind, chunk, waiting in events(mesh, stage.index):
        others = add_up(number * kept[one] for one, number in enumerate(waiting))
        key = kind, chunk
        beside[key] = larger(beside[key], others) if key in beside else others
    moments: list[Moment] = []
    most: Quantity = 0
    for kind, chunk in beside:
        others = beside[kind, chunk]
        most = larger(most, saved[chunk] + others)
        for moment in (forward if kind == "forward" else backward)[chunk]:
            moment.activations = moment.activations + others
            moment.begin = (moment.begin[0] + others, *moment.begin[1:])
            moment.end = (moment.end[0] + others, *moment.end[1:])
            moments.append(moment)
    verified = model.traits.verified and not untraced
    return Trace(most, moments, parts, grade if verified else "assumed", untraced)


def waiting_most(mesh: Mesh, stage: int) -> list[int]:
    """Micro-batches of each chunk that wait at most beside the one that runs. [-]"""
    found = events(mesh, stage)
    most = max(sum(waiting) for _, _, waiting in found)
    return list(next(waiting for _, _, waiting in found if sum(waiting) == most))
