"""Head and loss: logits, their fp32 copies, and what cross-entropy keeps and makes."""

from __future__ import annotations

from llmcalc.memory.training import ops
from llmcalc.memory.training.context import INPUTS, Run
from llmcalc.memory.training.ledger import LOGITS
from llmcalc.memory.training.tape import Node, Tape, Value

INDEX = 8
"""Bytes of a token id. [B]"""


def eager(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """Logits of all tokens at once, in fp32 for the loss."""
    t = run.tape
    t.label = LOGITS
    logits = run.linear(x, role)
    if run.traits.scaled_logits:
        logits = ops.scale(t, logits)
    if run.traits.caps_logits:
        logits = ops.scale(t, ops.saving_output(t, ops.scale(t, logits)))
    if run.plan.keep_logits:
        kept.append(logits)
    return cross_entropy(t, ops.cast(t, logits, 4), run)


def cross_entropy(t: Tape, logits: Value, run: Run) -> Value:
    """``log_softmax``, then the likelihood of each target."""
    t.label = INPUTS
    edge = run.batch if run.batch == 1 else 0  # a view of the padded labels, else a copy without padding
    targets = t.new(run.rows + edge, INDEX)
    t.label = LOGITS
    likely = ops.saving_output(t, logits)
    del logits
    node = t.node(likely)
    t.save(node, likely, targets)
    weight = t.new(1, 4)
    t.save(node, weight)
    del weight
    loss = t.new(1, 4)
    whole, element = likely.numel, likely.element

    def back(g: Value, node: Node) -> list[Value | None]:
        return [t.new(whole, element)]

    return t.link(loss, node, back)


def none(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """A scalar of the last hidden states, without logits."""
    t = run.tape
    node = t.node(x)
    whole, element = x.numel, x.element
    return t.link(t.new(1, 4), node, lambda g, node: [t.new(whole, element)])


LOSSES = {"eager": eager, "none": none}
