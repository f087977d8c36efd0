"""Buffers that Megatron-LM and Transformer Engine keep from the first step on."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, ceil_div
from llmcalc.model.inventory import Inventory, size
from llmcalc.units import MIB

WORKSPACE = 32 * MIB
"""Transformer Engine's own cuBLAS workspace on Hopper and later. [B]"""

STREAMS = 4
"""Streams that grouped products run on, each with a workspace. [-]"""

JOINED = (
    ("query", "key", "value"),
    ("gate", "up"),
    ("shared_gate", "shared_up"),
    ("expert_gate", "expert_up"),
)
"""Matrices that Megatron keeps as one."""


def buffers(question: Any, model: Inventory, stage: Any) -> dict[str, Quantity]:
    """What is allocated once and never freed, by what it is. [B]"""
    asked = question.asked
    mesh, element = asked.mesh, asked.recipe.weights
    found: dict[str, Quantity] = {"Transformer Engine workspace": WORKSPACE}
    key = "shapes", mesh.tp, mesh.ep, mesh.etp, tuple(span for span, _, _ in stage.chunks), stage.is_last
    if key not in question.known:
        question.known[key] = sum(rows * columns for rows, columns in _shapes(model, stage))
    found["placeholder gradients"] = element * question.known[key]
    if any(op.role == "expert_down" for group in model for op in group.ops):
        found["workspaces of grouped products"] = STREAMS * WORKSPACE
    if stage.is_last and mesh.sequence_parallel:
        found["gathered input of the head"] = asked.batch * question.local_tokens * _hidden(model) * element
    if stage.index:  # of the micro-batch before, until there is a next one
        tokens = ceil_div(asked.batch * question.local_tokens, mesh.tp if mesh.sequence_parallel else 1)
        found["gradient sent to the stage before"] = tokens * _hidden(model) * element
    return found


def _hidden(model: Inventory) -> int:
    """Width of the model. [elements]"""
    return next(
        size(op.out) for g in model for op in g.ops if g.place == "embedding" and op.role == "embedding"
    )


def _shapes(model: Inventory, stage: Any) -> set[tuple[int, int]]:
    """Shapes of the matrices whose gradients are added by their products.

    Such a product hands autograd an empty matrix in place of a gradient. There is one for each shape.
    """
    found: set[tuple[int, int]] = set()
    layers = {layer for span, _, _ in stage.chunks for layer in span}
    for group in model.groups:
        if group.component != "text" or group.place == "embedding":
            continue
        if group.place == "head" and not stage.is_last:
            continue
        if group.place == "layer" and not layers & set(group.layers):
            continue
        ops = {op.role: op for op in group.ops if op.kind == "linear" and op.role != "router"}
        for roles in JOINED:
            if all(role in ops for role in roles):
                last = ops[roles[0]]
                found.add((sum(size(ops.pop(role).out) for role in roles), size(last.inp)))
        found |= {(size(op.out), size(op.inp)) for op in ops.values()}
    return found
