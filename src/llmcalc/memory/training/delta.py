"""The gated delta rule in the reference code: in fp32, with a triangular system for each chunk."""

from __future__ import annotations

from llmcalc.formula import Quantity, ceil_div
from llmcalc.memory.training import ops
from llmcalc.memory.training.context import Run
from llmcalc.memory.training.states import cleared, convolved, cumulated, masked, padded
from llmcalc.memory.training.tape import Tape, Value
from llmcalc.model.inventory import size

CHUNK = 64
"""Tokens of a chunk. [tokens]"""


class Sizes:
    """Heads and widths of a delta net, and how its tokens lie in chunks."""

    __slots__ = ("chunks", "heads", "key", "key_heads", "rows", "value")

    def __init__(self, run: Run) -> None:
        axes = dict(run.ops["scan"].out[0])
        self.heads, self.key, self.value = axes["state_heads"], axes["key_dim"], axes["value_dim"]
        mixed = size(run.ops["conv"].out)
        self.key_heads = (mixed - self.heads * self.value) // (2 * self.key)
        self.chunks: Quantity = ceil_div(run.seq, CHUNK)
        self.rows: Quantity = run.batch * self.chunks * CHUNK


def gated_delta(run: Run, x: Value) -> Value:
    """From the normed input to the output projection."""
    t, s, rows, narrow = run.tape, Sizes(run), run.rows, x.element
    x = cleared(run, x)
    keys, values, heads = s.key_heads * s.key * rows, s.heads * s.value * rows, s.heads * rows
    if "delta_qkvz" in run.ops:
        whole = run.linear(x, "delta_qkvz")
        both = run.linear(x, "delta_ba")
        query, key, value, gate = ops.split(t, whole, [keys, keys, values, values])
        beta, alpha = ops.split(t, both, [heads, heads])
        del whole, both
        mixed = ops.cat(t, query, key, value)
        del query, key, value
    else:
        mixed = run.linear(x, "delta_qkv")
        gate, beta, alpha = (run.linear(x, role) for role in ("delta_gate", "delta_b", "delta_a"))
    del x
    mixed = ops.saving_input(t, convolved(run, mixed, "conv"))
    query, key, value = ops.split(t, mixed, [keys, keys, values])
    del mixed
    beta = ops.saving_output(t, beta)
    decay = _decay(run, s, alpha)
    del alpha
    if s.heads > s.key_heads:
        query, key = (ops.repeat(t, one, s.heads * s.key * rows) for one in (query, key))
    out = rule(run, s, query, key, value, beta, decay)
    del query, key, value, beta, decay
    out = _gated(run, ops.cast(t, out, narrow), gate, s.heads)
    del gate
    return run.linear(out, "delta_out")


def _decay(run: Run, s: Sizes, alpha: Value) -> Value:
    """``-exp(a_log.float()) * softplus(alpha.float() + bias)``."""
    t, sink, heads = run.tape, run.weight("a_log", ""), s.heads
    made = Value(t.new(0 if run.plan.weight_element == 4 else heads, 4).storage, heads, 4)
    rate = ops.scale(t, ops.saving_output(t, t.link(made, t.node(sink), lambda g, node: [g])))
    del made
    wide = ops.cast(t, alpha, 4)
    node = t.node(wide, run.weight("dt_bias", ""))
    moved = t.link(t.like(wide), node, lambda g, node: [g, t.new(heads, g.element)])
    del wide
    return ops.mul(t, rate, ops.saving_input(t, moved))


def _gated(run: Run, x: Value, gate: Value, heads: int) -> Value:
    """``(norm(x) * silu(gate.float())).to(dtype)``, over each head."""
    t = run.tape
    normed = run.norm(x, "delta_norm", run.rows * heads, "llama")
    narrow = x.element
    del x
    gate = ops.copy(t, gate)  # its heads lie apart in the projection
    wide = ops.mul(t, normed, ops.saving_input(t, ops.cast(t, gate, 4)))
    return ops.cast(t, wide, narrow)


def _unit(t: Tape, x: Value, vectors: Quantity) -> Value:
    """``x * rsqrt(sum(x * x) + eps)``."""
    norm = ops.total(t, ops.mul(t, x, x), vectors)
    return ops.mul(t, x, ops.saving_output(t, ops.shift(t, norm)))


def _laid_out(t: Tape, x: Value) -> Value:
    """In fp32, with the tokens of each head side by side."""
    return ops.cast(t, x, 4) if x.element < 4 else ops.copy(t, x)


def rule(run: Run, s: Sizes, query: Value, key: Value, value: Value, beta: Value, decay: Value) -> Value:
    """``torch_chunk_gated_delta_rule``, with the loop over chunks taken as one product of them all."""
    t, heads, rows = run.tape, s.heads, s.rows
    query, key, value, beta, decay = (_laid_out(t, one) for one in (query, key, value, beta, decay))
    query, key = _unit(t, query, heads * run.rows), _unit(t, key, heads * run.rows)
    query = ops.scale(t, query)
    query, key = (padded(t, one, heads * s.key * rows) for one in (query, key))
    value = padded(t, value, heads * s.value * rows)
    beta, decay = (padded(t, one, heads * rows) for one in (beta, decay))
    weighed, keyed = ops.mul(t, value, beta), ops.mul(t, key, beta)
    del value, beta
    total = cumulated(t, decay)
    del decay
    squares = heads * rows * CHUNK
    pairs = _differences(t, total, squares)
    pairs = ops.saving_output(t, masked(t, pairs, CHUNK * CHUNK))
    system = ops.mul(t, ops.matmul(t, keyed, key, squares), pairs)
    within = ops.mul(t, ops.matmul(t, query, key, squares), pairs)
    del pairs
    decayed = ops.mul(t, keyed, ops.saving_output(t, total))
    del keyed
    values, decayed = _solved(t, system, weighed), _solved(t, system, decayed)
    del system, weighed
    query = ops.mul(t, query, ops.saving_output(t, total))
    key = ops.mul(t, key, ops.saving_output(t, _less_last(t, total)))
    ends = ops.saving_output(t, ops.part(t, total, run.batch * heads * s.chunks))
    del total
    return _scanned(run, s, query, key, values, decayed, within, ends)


def _differences(t: Tape, x: Value, numel: Quantity) -> Value:
    """``x[i] - x[j]`` for all pairs of a chunk."""
    node = t.node(x)
    own = x.numel
    return t.link(t.new(numel, 4), node, lambda g, node: [t.new(own, g.element)])


def _less_last(t: Tape, x: Value) -> Value:
    node = t.node(x)
    return t.link(t.like(x), node, lambda g, node: [t.like(g)])


def _solved(t: Tape, system: Value, right: Value) -> Value:
    """``solve_triangular``: system and result are saved."""
    node = t.node(system, right)
    out = t.like(right)
    t.save(node, system, out)
    whole = system.numel
    return t.link(out, node, lambda g, node: [t.new(whole, g.element), t.like(g)])


def _scanned(
    run: Run, s: Sizes, query: Value, key: Value, values: Value, decayed: Value, within: Value, ends: Value
) -> Value:  # fmt: skip
    """From chunk to chunk: what the state predicts, what is read, what is written.

    The first state is zero and needs no gradient, so of one chunk alone neither query nor decay is saved.
    """
    t, heads = run.tape, s.heads
    state = t.new(run.batch * heads * s.key * s.value * s.chunks, 4)
    several = s.chunks > 1 if isinstance(s.chunks, int) else bool((s.chunks > 1).all())
    fresh = t.like(values)
    node = t.node(values, decayed, key, ends)
    if node is not None:
        t.save(node, state, key, ends, *([decayed] if several else []))
    sizes = [key.numel, ends.numel]
    fresh = t.link(fresh, node, lambda g, node: [g, t.like(g), *(t.new(n, 4) for n in sizes)])
    node = t.node(query)
    if several:
        t.save(node, query)
    keys = query.numel
    across = t.link(t.like(fresh), node, lambda g, node: [t.new(keys, g.element)])
    out = ops.add(t, across, ops.matmul(t, within, fresh, fresh.numel))
    del across
    return ops.part(t, ops.copy(t, out), heads * s.value * run.rows)
