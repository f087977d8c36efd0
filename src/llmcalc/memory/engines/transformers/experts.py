"""Routed experts in transformers: sorted and multiplied in groups, or one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.memory.engines.transformers.layer import Layer
from llmcalc.memory.engines.transformers.ledger import Block

if TYPE_CHECKING:
    from llmcalc.memory.engines.transformers.passes import Pass

LABEL = "experts"
INDEX, CHANCE = 8, 4
"""Bytes of an index and of a probability. [B]"""
LARGEST_SHARE = 2
"""How many times its even share of tokens the busiest expert is taken to see, one after the other."""


def routed(run: Pass, layer: Layer) -> Block:
    """From the normed tokens to the sum over each token's experts."""
    ledger, rows = run.ledger, run.rows
    logits = ledger.make(layer.experts * rows * (CHANCE if run.traits.wide_router else run.element), LABEL)
    if run.traits.wide_router:  # the router's input in fp32
        ledger.drop(ledger.make(CHANCE * run.hidden * rows, LABEL))
    chances = ledger.make(CHANCE * layer.experts * rows, LABEL)
    chosen = ledger.make((INDEX + CHANCE) * layer.active * rows, LABEL)
    ledger.drop(chances)
    out = _grouped(run, layer) if run.options.groups_experts else _one_by_one(run, layer)
    ledger.drop(logits, chosen)
    return out


def _widths(run: Pass, layer: Layer) -> tuple[int, int, int]:
    """Elements of a token at an expert: read, of gate and up together, between."""
    inner = layer.out.get("expert_up", layer.out.get("expert_gate_up", 0) // 2)
    gated = "expert_gate" in layer.out or "expert_gate_up" in layer.out
    return layer.out.get("latent_down", run.hidden), (2 if gated else 1) * inner, inner


def _grouped(run: Pass, layer: Layer) -> Block:
    """`grouped_mm`: a copy of each token for each of its experts, all at once."""
    ledger, pairs = run.ledger, run.rows * layer.active
    read, both, inner = _widths(run, layer)

    def make(elements: int, *consumed: Block | None, element: int = run.element) -> Block:
        return ledger.op(elements * pairs * element, LABEL, *consumed)

    order = ledger.make((2 * INDEX + CHANCE + run.element) * pairs, LABEL)
    copies = make(read)
    biases = make(both) if layer.biased else None
    wide = make(both)
    if layer.biased:  # both halves clamped, a sigmoid's product, one more added to the other half
        clamped = make(4 * inner)
        made = make(inner, clamped)
        ledger.drop(wide, biases)
        biases = make(read)
    elif both > inner:
        acted = make(inner)
        made = make(inner, acted)
        ledger.drop(wide)
    else:
        made = make(inner, wide)
    down = make(read, made)
    ledger.drop(biases)
    element = CHANCE if run.traits.wide_router else run.element
    weighed = make(read, element=element)
    inverse = ledger.make(INDEX * pairs, LABEL)
    back = make(read, weighed, element=element)
    out = ledger.make(read * run.rows * element, LABEL)
    if element > run.element:
        out = ledger.op(read * run.rows * run.element, LABEL, out)
    ledger.drop(back, down, copies, order, inverse)
    return out


def _one_by_one(run: Pass, layer: Layer) -> Block:
    """The loop of the modelling code: a sum of all tokens, a table of who goes where, one expert's part."""
    ledger = run.ledger
    read, both, inner = _widths(run, layer)
    out = ledger.make(read * run.rows * run.element, LABEL)
    table = ledger.make(INDEX * layer.experts * layer.active * run.rows, LABEL)
    busiest = min(-(-LARGEST_SHARE * run.rows * layer.active // max(layer.experts, 1)), run.rows)
    size = busiest * run.element
    part = ledger.make((read + both + 2 * inner) * size, LABEL)
    ledger.drop(part, ledger.make(0, LABEL), table)
    return out
