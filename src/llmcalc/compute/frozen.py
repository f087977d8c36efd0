"""The backward pass beside adapters: frozen matrices make no gradient of their weight.

Nor does anything need a gradient that stands before the first adapter: in the first layer what reads the
embedding makes none of its input either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.model.inventory import size

if TYPE_CHECKING:
    from llmcalc.compute.ops import Line, Work
    from llmcalc.model.inventory import Inventory

READS_INPUT = (
    "query", "key", "value", "qkv", "query_a", "kv_a", "kv", "ssm_in", "short_in", "linear_qkv",
    "linear_gate",
    "delta_qkv", "delta_qkvz", "delta_ba", "delta_query", "delta_key", "delta_value", "delta_gate", "delta_a",
    "delta_b", "time_key", "time_value", "time_receptance", "time_gate", "index_key", "index_weights",
)  # fmt: skip
"""Projections that read a layer's own input."""

SECOND = ("query_b", "kv_b", "ssm_x", "ssm_dt", "delta_forget_b", "delta_gate_b", "index_query")
"""Projections that read what those make."""

LEAVES = ("output", "output_a", "output_b", "ssm_out", "short_out", "linear_out", "delta_out", "time_out")
"""Projections that a mixing layer ends with."""


def first_layer(inventory: Inventory) -> int | None:
    """The layer that reads the embedding."""
    layers = [i for g in inventory.groups if g.place == "layer" and g.component == "text" for i in g.layers]
    return min(layers, default=None)


QUERIES = ("query", "query_a", "query_b", "qkv", "linear_qkv")
KEYS = ("key", "kv_a", "kv_b", "kv", "qkv", "linear_qkv")
VALUES = ("value", "kv_a", "kv_b", "kv", "qkv", "linear_qkv")
"""What makes the three things that attention reads."""


def frozen_backward(inventory: Inventory, lines: list[Line], work: Work) -> None:
    """Fill in the backward pass of a frozen model with adapters."""
    start = first_layer(inventory)
    for line in lines:
        each = 1 if line.kind == "linear" else 2
        line.backward = each * line.forward
        if line.component == "text" and start in line.group.layers:
            once = line.forward // line.layers
            line.backward += _in_first(line, once, work) - each * once


def _in_first(line: Line, once: Any, work: Work) -> Any:
    """The backward pass of an op of the first layer, by what of its inputs has a gradient. [FLOP]"""

    def adapted(*roles: str) -> bool:
        return any((line.component, line.place, one) in (work.adapters or {}) for one in roles)

    if line.kind == "linear" and line.role in READS_INPUT:
        return 0 * once
    reached = adapted(*READS_INPUT)
    if line.role in SECOND:
        return once * reached
    reached = reached or adapted(*SECOND)
    if line.role == "attention":
        query, key, value = adapted(*QUERIES), adapted(*KEYS), adapted(*VALUES)
        scores, sums = size(line.op.out), size(line.op.inp)
        made = sums * ((query or key) + value) + scores * (query + key)
        return once // (scores + sums) * made
    if line.kind != "linear":
        return 2 * once * reached
    return once * (reached or (line.role not in LEAVES and adapted(*LEAVES)))
