"""Recurrent layers: projections, a short convolution, and a scan over the sequence."""

from __future__ import annotations

from llmcalc.errors import ConfigError
from llmcalc.formula import Quantity, ceil_div
from llmcalc.memory.training import ops
from llmcalc.memory.training.context import STATES, Run
from llmcalc.memory.training.tape import WEIGHT, Node, Tape, Value
from llmcalc.model.inventory import size

CHUNK = 256
"""Tokens of a chunk where the configuration says nothing. [tokens]"""


def scan(run: Run, x: Value) -> Value:
    """From the normed input to the output projection."""
    t = run.tape
    label, t.label = t.label, STATES
    if "short_in" in run.ops:
        out = _short(run, x)
    elif "ssm_in" in run.ops and "ssm_x" not in run.ops:
        out = _mamba2(run, x)
    elif "delta_qkvz" in run.ops or "delta_qkv" in run.ops:
        from llmcalc.memory.training.delta import gated_delta

        out = gated_delta(run, x)
    else:
        raise ConfigError(
            f"What a recurrent layer of {run.traits.family} keeps for training is not known.",
            "Known are attention, Mamba-2, gated delta nets and short convolutions.",
        )
    t.label = label
    return out


def _short(run: Run, x: Value) -> Value:
    """LFM's gated convolution: ``out(c * conv(b * x))``."""
    t = run.tape
    x = cleared(run, x)
    whole = run.linear(x, "short_in")
    del x
    third = whole.numel // 3
    b, c, inner = ops.split(t, whole, [third, third, third])
    del whole
    inner = convolved(run, ops.mul(t, b, inner), "short_conv")
    del b
    y = ops.mul(t, c, inner)
    del c, inner
    return run.linear(ops.copy(t, y), "short_out")


def cleared(run: Run, x: Value) -> Value:
    """Zeros where tokens are padding."""
    padding = run.shared.padding
    if padding is None:
        return x
    t = run.tape
    node = t.node(x)
    t.save(node, padding)
    return t.link(t.like(x), node, lambda g, node: [t.like(g)])


def convolved(run: Run, x: Value, role: str) -> Value:
    """A depthwise convolution over the positions before; it makes as many more as its kernel reaches back."""
    t, op = run.tape, run.ops[role]
    channels, kernel = size(op.out), size(op.inp)
    weight, bias = run.weight(role), run.weight(role, "bias")
    node = t.node(x, weight, bias)
    if node is not None:
        t.save(node, *([x] if node.needs(1) else []), *([WEIGHT] if node.needs(0) else []))
    made = t.new(channels * run.batch * (run.seq + kernel - 1), x.element)
    sizes, element = (x.numel, run.numel(role), channels), x.element

    def back(g: Value, node: Node) -> list[Value | None]:
        return [t.new(n, element) if node.needs(i) else None for i, n in enumerate(sizes)]

    return ops.part(t, t.link(made, node, back), channels * run.rows)


class Sizes:
    """Widths of a Mamba-2 mixer, and how its tokens lie in chunks."""

    __slots__ = ("bc", "chunk", "chunks", "groups", "head", "heads", "inner", "rows", "state")

    def __init__(self, run: Run) -> None:
        op = run.ops["scan"]
        axes = dict(op.out[0])
        self.heads, self.head, self.state = axes["state_heads"], axes["head_dim"], axes["state"]
        self.inner = size(op.inp)
        self.bc = (size(run.ops["conv"].out) - self.inner) // 2
        self.groups = self.bc // self.state
        facts = run.traits.facts
        self.chunk = int(facts.get("chunk_size") or facts.get("mamba_chunk_size") or CHUNK)
        self.chunks: Quantity = ceil_div(run.seq, self.chunk)
        self.rows: Quantity = run.batch * self.chunks * self.chunk


def _mamba2(run: Run, x: Value) -> Value:
    """Mamba-2 in the reference code: everything in fp32, chunk by chunk as matrix products."""
    t, sizes, rows = run.tape, Sizes(run), run.rows
    narrow = x.element
    x = cleared(run, x)
    if run.traits.scaled_mixers:
        x = ops.scale(t, x)
    whole = run.linear(x, "ssm_in")
    del x
    if run.traits.scaled_mixers:
        whole = ops.scale(t, whole)
    decay = _decay(run, sizes)
    widths = [sizes.inner * rows, (sizes.inner + 2 * sizes.bc) * rows, sizes.heads * rows]
    gate, mixed, step = ops.split(t, whole, widths)
    del whole
    mixed = cleared(run, ops.saving_input(t, convolved(run, mixed, "conv")))
    inner, b, c = ops.split(t, mixed, [sizes.inner * rows, sizes.bc * rows, sizes.bc * rows])
    del mixed
    out = chunk_scan(run, sizes, inner, b, c, step, decay)
    del inner, b, c, step, decay
    if "ssm_norm" in run.ops:
        out = _gated_norm(run, sizes, out, gate)
    else:
        out = ops.mul(t, out, ops.saving_input(t, gate))
    del gate
    return run.linear(ops.cast(t, out, narrow), "ssm_out")


def _decay(run: Run, sizes: Sizes) -> Value:
    """``-exp(a_log.float())``."""
    t, sink = run.tape, run.weight("a_log", "")
    made = Value(t.new(0 if run.plan.weight_element == 4 else sizes.heads, 4).storage, sizes.heads, 4)
    made = t.link(made, t.node(sink), lambda g, node: [g])
    return ops.scale(t, ops.saving_output(t, made))


def _gated_norm(run: Run, sizes: Sizes, x: Value, gate: Value) -> Value:
    """``norm(x.float() * silu(gate.float()))``, over each group."""
    t = run.tape
    x = ops.cast(t, x, 4)
    x = ops.mul(t, x, ops.saving_input(t, ops.cast(t, gate, 4)))
    del gate
    return run.norm(x, "ssm_norm", run.rows * sizes.groups)


def chunk_scan(
    run: Run, sizes: Sizes, x: Value, b: Value, c: Value, step: Value, decay: Value
) -> Value:  # fmt: skip
    """The state-space dual: within a chunk as attention is computed, from chunk to chunk by their states."""
    t, rows, heads = run.tape, sizes.rows, sizes.heads
    step = _step(run, step)
    wide, narrow_b, narrow_c = ops.cast(t, x, 4), ops.cast(t, b, 4), ops.cast(t, c, 4)
    del x, b, c
    b = ops.repeat(t, narrow_b, heads * sizes.state * run.rows)
    c = ops.repeat(t, narrow_c, heads * sizes.state * run.rows)
    del narrow_b, narrow_c
    skip = ops.weigh(t, padded(t, wide, sizes.inner * rows), run.weight("skip", ""), run.plan.weight_element)
    wide = ops.mul(t, wide, ops.cast(t, step, 4))
    slope = ops.mul(t, decay, ops.cast(t, step, 4))
    del step, decay
    wide, slope = padded(t, wide, sizes.inner * rows), padded(t, slope, heads * rows)
    b, c = padded(t, b, heads * sizes.state * rows), padded(t, c, heads * sizes.state * rows)
    total = cumulated(t, slope)
    within = _within(run, sizes, wide, b, c, slope)
    del slope
    states = _states(run, sizes, wide, b, total)
    del wide, b
    across = _across(run, sizes, c, states, total)
    del c, states, total
    out = ops.copy(t, ops.add(t, within, across))
    del within, across
    return ops.part(t, ops.add(t, out, skip), sizes.inner * run.rows)


def _step(run: Run, step: Value) -> Value:
    """``clamp(softplus(dt + bias))``."""
    t = run.tape
    node = t.node(step, run.weight("dt_bias", ""))
    heads = run.numel("dt_bias", "")
    moved = t.link(t.like(step), node, lambda g, node: [g, t.new(heads, g.element)])
    return ops.clamp(t, ops.saving_input(t, moved))


def padded(t: Tape, x: Value, numel: Quantity) -> Value:
    """Filled up to whole chunks; where nothing is to be filled, a copy all the same."""
    node = t.node(x)
    own = x.numel
    return t.link(t.new(numel, x.element), node, lambda g, node: [Value(g.storage, own, g.element)])


def cumulated(t: Tape, x: Value) -> Value:
    """A sum up to each position; backward turns it round, sums, and turns it back."""
    node = t.node(x)

    def back(g: Value, node: Node) -> list[Value | None]:
        turned = t.like(g)
        summed = t.like(g)
        del turned
        out = t.like(g)
        del summed
        return [out]

    return t.link(t.like(x), node, back)


def masked(t: Tape, x: Value, square: Quantity) -> Value:
    """``masked_fill``, which saves its mask."""
    node = t.node(x)
    mask = t.new(square, 1)
    t.save(node, mask)
    del mask
    return t.link(t.like(x), node, lambda g, node: [t.like(g)])


def _sums_between(t: Tape, x: Value, width: Quantity) -> Value:
    """Sums from each position to each other, as squares of that width; what lies ahead is masked."""
    node = t.node(x)
    own, numel = x.numel, x.numel * width
    wide = t.link(Value(x.storage, numel, x.element), node, lambda g, node: [t.new(own, g.element)])
    wide = masked(t, wide, width * width)
    wide = cumulated(t, wide)
    return masked(t, wide, width * width)


def _contracted(t: Tape, a: Value, b: Value, numel: Quantity, copies: int = 2) -> Value:
    """``einsum`` of two tensors as a batched product: those that lie otherwise in memory are copied first."""
    b = ops.copy(t, b) if copies > 0 else b
    a = ops.copy(t, a) if copies > 1 else a
    return ops.matmul(t, a, b, numel)


def _within(run: Run, sizes: Sizes, x: Value, b: Value, c: Value, slope: Value) -> Value:
    """What a chunk's tokens have from its own."""
    t, squares = run.tape, sizes.heads * sizes.rows * sizes.chunk
    decays = ops.saving_output(t, _sums_between(t, slope, sizes.chunk))
    scores = _contracted(t, c, b, squares)
    scores = ops.mul(t, scores, decays)
    del decays
    return _contracted(t, scores, x, sizes.inner * sizes.rows)


def _states(run: Run, sizes: Sizes, x: Value, b: Value, total: Value) -> Value:
    """The state that each chunk begins with."""
    t, heads = run.tape, sizes.heads
    node = t.node(total)
    rest = t.link(t.like(total), node, lambda g, node: [t.like(g)])
    rest = ops.saving_output(t, rest)
    weighed = ops.mul(t, b, rest)
    del b, rest
    state = run.batch * heads * sizes.head * sizes.state
    states = _contracted(t, weighed, x, sizes.chunks * state)
    del weighed, x
    first = t.new(state, 4)
    states = ops.cat(t, first, states)
    del first
    ends = padded(
        t, ops.part(t, total, run.batch * heads * sizes.chunks), run.batch * heads * (sizes.chunks + 1)
    )
    decays = ops.saving_output(t, _sums_between(t, ends, sizes.chunks + 1))
    del ends
    states = _contracted(t, decays, states, (sizes.chunks + 1) * state, copies=1)
    del decays
    return ops.part(t, states, sizes.chunks * state)


def _across(run: Run, sizes: Sizes, c: Value, states: Value, total: Value) -> Value:
    """What a chunk's tokens have from the chunks before."""
    t = run.tape
    decays = ops.saving_output(t, total)
    read = _contracted(t, c, states, sizes.inner * sizes.rows)
    return ops.mul(t, read, decays)
