"""Head and loss: logits, their fp32 copies, and what cross-entropy keeps and makes."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, ceil_div, is_array, smaller
from llmcalc.memory.training import adapters, ops
from llmcalc.memory.training.context import INPUTS, Run
from llmcalc.memory.training.ledger import LOGITS
from llmcalc.memory.training.tape import Node, Tape, Value
from llmcalc.model.inventory import size

INDEX = 8
"""Bytes of a token id. [B]"""

OUTPUT_CHUNKS, HEAD_CHUNK = 8, 128
"""torchtune's chunks of the logits; tokens of a chunk of litgpt's head. [-]"""


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
    return cross_entropy(t, ops.cast(t, logits, 4), run)  # the model's own logits keep their name


def cross_entropy(t: Tape, logits: Value, run: Run) -> Value:
    """``log_softmax``, then the likelihood of each target."""
    targets = _targets(run)
    t.label = LOGITS
    likely = ops.saving_output(t, logits)
    node = t.node(likely)
    t.save(node, likely, targets)
    weight = t.new(1, 4)
    t.save(node, weight)
    del weight
    loss = t.new(1, 4)
    whole, element = likely.numel, likely.element

    def back(g: Value, node: Node) -> list[Any]:
        return [t.new(whole, element)]

    return t.link(loss, node, back)


def shifted(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """As transformers did before 4.45: logits turned into fp32 for good, of which a shifted copy goes on."""
    t, vocab = run.tape, run.out(role)
    t.label = LOGITS
    logits = run.linear(x, role)
    logits = ops.cast(t, logits, 4)
    if run.plan.keep_logits:
        kept.append(logits)
    before = ops.part(t, logits, vocab * (run.rows - run.batch))
    moved = ops.copy(t, before)
    del before
    return cross_entropy(t, moved, run)


def compiled(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """A compiled loss: one kernel each way, which keeps the logits as they come and each row's sum."""
    t = run.tape
    t.label = LOGITS
    logits = run.linear(x, role)
    targets = _targets(run)
    t.label = LOGITS
    node = t.node(logits)
    t.save(node, logits, targets, t.new(run.rows, 4))
    numel, element = logits.numel, logits.element
    del logits, targets
    return t.link(t.new(1, 4), node, lambda g, node: [t.new(numel, element)])


def _targets(run: Run) -> Value:
    """Shifted labels: of one sequence a view of the padded ones, else a copy."""
    run.tape.label = INPUTS
    return run.tape.new(run.rows + run.batch if run.single else run.rows, INDEX)


def chunked(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """All logits at once, but their loss chunk by chunk, so that gradients of logits are one chunk's.

    torchtune makes 8 chunks in fp32; litgpt one for every 128 tokens of a sequence, of logits that Fabric has
    turned into fp32 and that the training loop holds until the next ones are there.
    """
    t, rows, plan = run.tape, run.rows, run.plan
    t.label = LOGITS
    vocab, own = run.out(role), plan.recipe == "litgpt"
    chunk = smaller(run.batch * HEAD_CHUNK, rows) if own else ceil_div(rows, OUTPUT_CHUNKS)
    wide = x.element if plan.compiled and not own else 4
    used = rows - run.batch if own else rows  # litgpt drops each sequence's last
    weight, numel = run.weight(role), run.numel(role)
    packed = plan.dequant(run.group, run.layer, role) * numel
    earlier = t.new(plan.earlier, 1)
    logits = t.new(vocab * rows, x.element)
    tile = ops.unpacked(t, packed, own)
    del tile
    if own:
        logits = t.new(vocab * rows, wide)
    del earlier
    if own or plan.keep_logits:
        kept.append(logits)
    targets = _targets(run)
    t.label = LOGITS
    beside = adapters.inner(run, x, role)
    low = [one for one in beside if isinstance(one, Value)]
    node = t.node(x, weight, *beside)
    if node is not None:
        keeps = node.needs(1) or (plan.keeps_inputs and packed > 0)
        t.save(node, *([x] if keeps else []), *low, targets)
        if plan.autocast and plan.weight_element != plan.element:
            # A copy of a frozen weight is not kept for the next use: each chunk of the head has its own.
            pieces = ceil_div(run.seq, HEAD_CHUNK) if own else OUTPUT_CHUNKS
            t.save(node, t.new(numel * (pieces if weight is None else 1), plan.element))
    copy = t.new(vocab * chunk, wide) if wide != x.element and not own else None
    likely = logits if wide == x.element and not own else t.new(vocab * used, wide)
    t.save(node, likely)
    del copy, logits, likely
    whole, element = x.numel, x.element
    sizes = [(one.numel, one.element if isinstance(one, Value) else one.bytes) for one in beside]
    del beside, low

    def back(g: Value, node: Node) -> list[Any]:
        first = t.new(vocab * chunk, wide) if wide != element else None
        second = t.new(vocab * chunk, wide)
        del first
        narrow = t.new(vocab * chunk, element) if wide != element else second
        del second
        tile = ops.unpacked(t, packed, own) if node.needs(0) else None
        grads = [
            t.new(whole, element) if node.needs(0) else None,
            t.new(numel, element) if node.needs(1) else None,
        ]
        more = t.new(numel, element) if node.needs(1) else None  # the next chunk's, before it is added
        del more, narrow, tile
        return [*grads, *(t.new(n, bytes_) for n, bytes_ in sizes)]

    return t.link(t.new(1, 4), node, back)


def fused(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """Liger's: logits of one chunk at a time, whose gradients are made at once in the forward pass."""
    t, rows = run.tape, run.rows
    t.label = LOGITS
    vocab, width = run.out(role), size(run.ops[role].inp)
    weight, numel = run.weight(role), run.numel(role)
    chunk = _power_of_two(ceil_div(rows, ceil_div(vocab, width)))
    node = t.node(x, weight)
    targets = _targets(run)
    t.label = LOGITS
    back_x = t.like(x)
    back_w = t.new(numel, x.element) if node is not None and node.needs(1) else None
    logits = t.new(vocab * chunk, x.element)
    if back_w is not None:
        product = t.new(numel, x.element)
        wide = t.new(numel, 4)
        del product, wide
    del logits, targets
    t.save(node, back_x, *([back_w] if back_w is not None else []))
    sizes, element = (x.numel, numel), x.element
    del back_x, back_w

    def back(g: Value, node: Node) -> list[Any]:
        pairs = zip(sizes, [*node.kept, None], strict=False)
        return [
            Value(own, n, element) if own is not None and node.needs(i) else None
            for i, (n, own) in enumerate(pairs)
        ]

    return t.link(t.new(1, 4), node, back)


def _power_of_two(number: Quantity) -> Quantity:
    """The next power of two."""
    if is_array(number):
        import numpy as np

        return 2 ** np.ceil(np.log2(np.maximum(number, 1))).astype(np.int64)
    return 1 << (int(number) - 1).bit_length()


def vocab_parallel_fused(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """Megatron's with its kernels compiled: that of the gradient works on a copy of the softmax."""
    return vocab_parallel(run, x, role, kept, True)


def vocab_parallel(run: Run, x: Value, role: str, kept: list[Value], copies: bool = False) -> Value:
    """Megatron's: a softmax in fp32 written over its logits; its gradient is written over it in turn."""
    t = run.tape
    t.label = LOGITS
    logits = run.linear(x, role)
    targets = _targets(run)
    t.label = LOGITS
    node = t.node(logits)
    chances = t.like(logits, 4)
    t.save(node, chances, targets)
    numel, element = logits.numel, logits.element
    del chances, logits, targets

    def back(g: Value, node: Node) -> list[Any]:
        own = node.kept[0]
        wide = Value(own, numel, 4) if own is not None and not copies else t.new(numel, 4)
        return [t.new(numel, element) if element < 4 else wide]

    return t.link(t.new(1, 4), node, back)


def vocab_parallel_te(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """Transformer Engine's: the gradient of the logits is written over them in the forward pass."""
    t = run.tape
    t.label = LOGITS
    logits = run.linear(x, role)
    targets = _targets(run)
    t.label = LOGITS
    node = t.node(logits)
    t.save(node, logits)
    numel, element = logits.numel, logits.element
    del logits, targets

    def back(g: Value, node: Node) -> list[Any]:
        own = node.kept[0]
        return [Value(own, numel, element) if own is not None else t.new(numel, element)]

    return t.link(t.new(1, 4), node, back)


def none(run: Run, x: Value, role: str, kept: list[Value]) -> Value:
    """A scalar of the last hidden states, without logits."""
    t = run.tape
    node = t.node(x)
    whole, element = x.numel, x.element
    return t.link(t.new(1, 4), node, lambda g, node: [t.new(whole, element)])


LOSSES = {
    "eager": eager, "shifted": shifted, "compiled": compiled, "chunked": chunked, "fused": fused,
    "vocab-parallel": vocab_parallel, "vocab-parallel-fused": vocab_parallel_fused,
    "vocab-parallel-te": vocab_parallel_te, "none": none,
}  # fmt: skip
