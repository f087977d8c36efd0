"""Log-probabilities of what a policy answered, and a critic's values: what their losses keep and make."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, smaller
from llmcalc.memory.training import ops
from llmcalc.memory.training.context import INPUTS, Run
from llmcalc.memory.training.ledger import LOGITS
from llmcalc.memory.training.losses import INDEX
from llmcalc.memory.training.tape import Node, Tape, Value
from llmcalc.model.inventory import size

ENTROPY_CHUNK = 128
"""Tokens whose entropy TRL computes at once. [tokens]"""


def log_probs(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """TRL's: logits of the answers alone, log-probabilities of one sequence after the other.

    What Accelerate wraps in autocast hands its outputs on in fp32: the logits' log-sum-exp is then taken,
    which keeps the logits; 16-bit ones keep a log-softmax of their own.
    """
    t, plan = run.tape, run.plan
    t.label = LOGITS
    rows: Quantity = run.rows
    if not isinstance(plan.answers, int) or plan.answers:
        rows = run.batch * (plan.answers + 1)
        x = ops.part(t, x, x.numel // run.rows * rows)
        if not run.single:
            x = ops.copy(t, x)  # slices of several sequences do not lie side by side
    logits = _logits(run, x, role, rows)
    del x
    if plan.autocast:
        logits = ops.cast(t, logits, 4)
    logits = divided(t, logits)
    each = logits.numel // run.batch
    likely = _wide(t, logits, each, rows) if logits.element == 4 else _narrow(t, logits, each, rows)
    if not plan.no_grad:
        flat = None if run.single else t.like(logits)  # slices of several sequences, side by side
        tokens = smaller(rows, ENTROPY_CHUNK)
        chunk = [t.new(tokens * run.out(role), logits.element) for _ in range(3)]
        del flat, chunk
    return likely


def _logits(run: Run, x: Value, role: str, rows: Quantity = None) -> Value:
    t = run.tape
    logits = run.linear(x, role, rows)
    if run.traits.scaled_logits:
        logits = ops.scale(t, logits)
    if run.traits.caps_logits:
        logits = ops.scale(t, ops.saving_output(t, ops.scale(t, logits)))
    return logits


def divided(t: Tape, x: Value) -> Value:
    """``x[...].div_(temperature)``: written over what is there.

    Autograd goes backward through such a change of a view by copies: of the whole, of the part that was
    changed, of its quotient.
    """
    node = t.node(x)

    def back(g: Value, node: Node) -> list[Any]:
        whole, part = t.like(g), t.like(g)
        quotient = t.like(g)
        del part, quotient
        return [whole]

    changed = t.link(Value(x.storage, x.numel, x.element), node, back)
    return _unbound(t, changed)  # the view, seen anew


def _wide(t: Tape, logits: Value, each: Quantity, rows: Quantity) -> Value:
    """The chosen logit less the log-sum-exp of each sequence's."""
    whole = logits.numel
    first = t.node(logits)
    chosen = t.new(rows, 4)
    t.save(first, t.new(rows, INDEX))
    chosen = t.link(chosen, first, lambda g, node: [t.new(whole, 4)])
    parts = _unbound(t, logits)
    node = t.node(parts)
    t.save(node, parts)
    exponentials = t.new(each, 4)
    del exponentials

    def back(g: Value, node: Node) -> list[Any]:
        made = t.new(whole, 4)
        shifted = t.new(each, 4)
        del shifted
        return [made]

    sums = t.link(t.new(rows, 4), node, back)
    both = t.node(chosen, sums)
    return t.link(t.new(rows, 4), both, lambda g, node: [g, g])


def _narrow(t: Tape, logits: Value, each: Quantity, rows: Quantity) -> Value:
    """A log-softmax of each sequence, of which the chosen tokens' are taken."""
    whole, element = logits.numel, logits.element
    parts = _unbound(t, logits)
    node = t.node(parts)
    likely = t.new(whole if node is not None else each, element)
    t.save(node, likely, t.new(rows, INDEX))
    del likely, logits, parts

    def back(g: Value, node: Node) -> list[Any]:
        made = t.new(whole, element)
        spread = t.new(each, element)
        del spread
        return [made]

    return t.link(t.new(rows, element), node, back)


def _unbound(t: Tape, x: Value) -> Value:
    """Parts of a tensor; their gradients are put together in a new one."""
    node = t.node(x)
    return t.link(Value(x.storage, x.numel, x.element), node, lambda g, node: [t.like(g)])


def log_probs_in_place(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """verl's: logits of all tokens in 16 bit; flash-attn's cross-entropy writes the gradient over them."""
    t = run.tape
    t.label = LOGITS
    logits = divided(t, _logits(run, x, role))
    t.label = INPUTS
    targets = t.new(run.rows, INDEX)
    t.label = LOGITS
    node = t.node(logits)
    t.save(node, logits, targets, t.new(run.rows, 4))
    numel, element = logits.numel, logits.element
    del logits, targets

    def back(g: Value, node: Node) -> list[Any]:
        own = node.kept[0]
        return [Value(own, numel, element) if own is not None else t.new(numel, element)]

    return t.link(t.new(run.rows, 4), node, back)


def log_probs_wide(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """OpenRLHF's: logits of all tokens in fp32, which the output holds; their gradient is a new one."""
    t = run.tape
    t.label = LOGITS
    logits = ops.cast(t, _logits(run, x, role), 4)
    kept.append(logits)
    node = t.node(logits)
    t.save(node, logits, t.new(run.rows, INDEX), t.new(run.rows, 4))
    numel = logits.numel
    del logits
    return t.link(t.new(run.rows, 4), node, lambda g, node: [t.new(numel, 4)])


def log_probs_fused(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """Liger's: one sequence's logits at a time, whose gradients are made at once in the forward pass."""
    t, plan = run.tape, run.plan
    t.label = LOGITS
    asked = plan.answers if not isinstance(plan.answers, int) or plan.answers else run.seq
    vocab = run.out(role)
    weight, numel = run.weight(role), run.numel(role)
    node = t.node(x, weight)
    back_x = t.like(x) if node is not None else None
    back_w = t.new(numel, x.element) if node is not None and node.needs(1) else None
    logits, likely = t.new(vocab * asked, x.element), t.new(vocab * asked, 4)
    if node is not None:
        gradient = t.new(vocab * asked, 4)
        product = t.new(numel, x.element) if back_w is not None else None
        del gradient, product
    del logits, likely
    sizes, element = (x.numel, numel), x.element
    t.save(node, *([back_x] if back_x is not None else []), *([back_w] if back_w is not None else []))
    del back_x, back_w

    def back(g: Value, node: Node) -> list[Any]:
        pairs = zip(sizes, [*node.kept, None], strict=False)
        return [
            Value(own, n, element) if own is not None and node.needs(i) else None
            for i, (n, own) in enumerate(pairs)
        ]

    return t.link(t.new(1, 4), node, back)


def values(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """One number for each token, and the squares of how far they are off."""
    t = run.tape
    t.label = LOGITS
    width = size(run.ops[role].out)
    wide = ops.cast(t, run.linear(x, role, run.rows), 4)
    node = t.node(wide)
    t.save(node, wide, t.new(width * run.rows, 4))
    numel = wide.numel
    return t.link(t.new(1, 4), node, lambda g, node: [t.new(numel, 4)])


POLICY_LOSSES = {
    "log-probs": log_probs, "log-probs-in-place": log_probs_in_place, "log-probs-wide": log_probs_wide,
    "log-probs-fused": log_probs_fused, "values": values,
}  # fmt: skip
