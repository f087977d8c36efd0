"""Attention: projections, rotation, and eager, sdpa or flash kernels."""

from __future__ import annotations

from llmcalc.formula import Quantity
from llmcalc.memory.training import ops, recipes
from llmcalc.memory.training.adapters import dropout
from llmcalc.memory.training.context import ATTENTION, NORMS, SCORES, Run
from llmcalc.memory.training.shape import Shape
from llmcalc.memory.training.tape import Node, Tape, Value

WIDEST = 256
"""Head width up to which a fused kernel shares key heads among query heads."""


def attend(run: Run, x: Value) -> Value:
    """From the normed input to the output projection."""
    t = run.tape
    label, t.label = t.label, ATTENTION
    shape = Shape(run.group)
    gate: Value | None = None
    x = run.enter(x)
    if "kv_b" in run.ops:
        latent = _latent_at_once if run.recipe.rotation == "fused" else _latent
        query, key, value = latent(run, x, shape)
    else:
        query, key, value, gate = _projected(run, x, shape)
    del x
    out = core(run, query, key, value, shape)  # queries, keys and values keep their names to the end
    if gate is not None:
        out = ops.mul(t, out, ops.saving_output(t, gate))
    del gate
    out = run.linear(out, "output")
    t.label = label
    return out


def _projected(run: Run, x: Value, shape: Shape) -> tuple[Value, Value, Value, Value | None]:
    """Queries, keys, values, and an output gate where queries are twice as wide."""
    t, rows = run.tape, run.rows
    q, k, v = shape.heads * shape.width, shape.kv_heads * shape.width, shape.kv_heads * shape.value
    gate: Value | None = None
    if "qkv" in run.ops:
        query, key, value = ops.split(t, run.linear(x, "qkv"), [q * rows, k * rows, v * rows])
        if run.traits.picks_heads and shape.kv_heads < shape.heads:
            key, value = _picked(run, key), _picked(run, value)
            if shape.kv_heads > 1:  # repeated before they are rotated
                key = _repeated(run, key, q * rows, shape)
                value = _repeated(run, value, shape.heads * shape.value * rows, shape)
                shape.kv_heads = shape.heads
    elif run.recipe.joint and run.out("query") == q and "key" in run.ops and "value" in run.ops:
        roles = ("query", "key", "value")
        apart = run.recipe.regathers and run.plain(roles)
        query, key, value = run.joint_regathered(x, roles) if apart else run.joint(x, roles)
        if run.recipe.contiguous:
            value = ops.copy(t, value)
        query = _normed(run, query, "query_norm", shape.heads)
        key = _normed(run, key, "key_norm", shape.kv_heads)
    else:
        query = run.linear(x, "query")
        if run.out("query") == 2 * q:
            query, gate = ops.split(t, query, [q * rows, q * rows])
        query = _normed(run, query, "query_norm", shape.heads)
        key = run.linear(x, "key") if "key" in run.ops else _borrowed(run, k)
        if run.traits.scaled_mixers:
            key = ops.scale(t, key)
        key = _normed(run, key, "key_norm", shape.kv_heads)
        value = (
            run.linear(x, "value") if "value" in run.ops else key if "key" in run.ops else _borrowed(run, v)
        )
    del x
    if run.recipe.rotation == "joined" and shape.kv_heads < shape.heads:  # before they are rotated
        key = _repeated(run, key, q * rows, shape)
        value = _repeated(run, value, shape.heads * shape.value * rows, shape)
        shape.kv_heads = shape.heads
    if run.shared.rotary:
        cos, sin = run.shared.tables[table_of(run, shape.window)]
        if run.traits.repeats_tables:
            cos, sin = t.like(cos), t.like(sin)
        turned = rotated(run, query, cos, sin, shape.heads, shape.width)
        key = rotated(run, key, cos, sin, shape.kv_heads, shape.width)
        query = turned
        del turned
    return query, key, value, gate


def _picked(run: Run, x: Value) -> Value:
    """Heads taken out of a fused product by their number, which copies them."""
    return ops.index(run.tape, x, x.numel, run.tape.new(1, 8))


def _borrowed(run: Run, width: int) -> Value:
    """Keys or values of an earlier layer, which holds them."""
    return Value(run.tape.new(0, 1).storage, width * run.rows, run.element)


def _normed(run: Run, x: Value, role: str, heads: int) -> Value:
    """Queries or keys with their norm, where there is one: over a head, or over all of them."""
    if role not in run.ops:
        return x
    op = run.ops[role]
    axes = dict(op.out[0])
    per_head = not ({"heads", "kv_heads"} & set(axes)) or (
        (role, "weight") in run.tensors and len(run.tensors[role, "weight"].dims) > 1
    )
    return run.norm(x, role, run.rows * heads if per_head else run.rows)


def table_of(run: Run, window: int | None) -> str:
    """Which rotation tables a layer reads."""
    return "window" if window is not None and run.traits.two_tables else "full"


def rotated(run: Run, x: Value, cos: Value, sin: Value, heads: int, width: int) -> Value:
    """Queries or keys turned by their positions."""
    t, share = run.tape, min(run.shared.rotary, width)
    narrow = x.element
    if run.recipe.rotation == "fused":
        return recipes.turned_at_once(t, x)
    if run.recipe.rotation == "in-place":
        return recipes.turned_in_place(t, x, cos, sin)
    if run.recipe.rotation == "paired":
        return recipes.turned_in_pairs(t, x)
    if run.traits.tables == "complex" or run.recipe.rotation == "complex":
        wide = ops.cast(t, x, 4)
        del x
        return ops.cast(t, ops.mul(t, wide, cos), narrow)
    if run.traits.tables == "narrow":
        half = x.numel // 2
        first, second = ops.split(t, x, [half, half])
        del x
        one = ops.add(t, ops.mul(t, first, cos), ops.mul(t, second, sin))
        two = ops.add(t, ops.mul(t, second, cos), ops.mul(t, first, sin))
        return ops.cat(t, one, two)
    rest: Value | None = None
    turning = x
    if share < width:
        turning = ops.part(t, x, x.numel // width * share)
        rest = ops.part(t, x, x.numel // width * (width - share))
    del x
    if run.traits.wide_rotation:
        turning = ops.cast(t, turning, 4)
    out = ops.add(t, ops.mul(t, turning, cos), ops.mul(t, _half_turned(t, turning), sin))
    del turning
    out = ops.cast(t, out, narrow) if not run.plan.autocast or run.traits.tables == "wide" else out
    if rest is not None:
        out = ops.cat(t, out, rest)
    elif run.traits.joins or run.recipe.rotation == "joined":
        out = ops.cat(t, out)
    return out


def _half_turned(t: Tape, x: Value) -> Value:
    """``cat((-x2, x1))``."""
    half = x.numel // 2
    first = ops.part(t, x, half)
    second = ops.part(t, x, half)
    return ops.cat(t, ops.scale(t, second), first)


def _interleaved(t: Tape, x: Value, cos: Value, sin: Value) -> Value:
    """Even and odd slices turned, then side by side."""
    half = x.numel // 2
    one, two = ops.part(t, x, half), ops.part(t, x, half)
    del x
    first = ops.add(t, ops.mul(t, one, cos), ops.mul(t, two, sin))
    second = ops.add(t, ops.mul(t, two, cos), ops.mul(t, one, sin))
    return ops.cat(t, first, second)


def _latent(run: Run, x: Value, shape: Shape) -> tuple[Value, Value, Value]:
    """Multi-head latent attention: one latent and one rotary key, expanded to all heads."""
    t, rows, heads = run.tape, run.rows, shape.heads
    turning = run.shared.rotary
    still = shape.width - turning
    if "query_a" in run.ops:
        query = run.linear(run.norm(run.linear(x, "query_a"), "query_a_norm"), "query_b")
    else:
        query = run.linear(x, "query")
    passing, rotating = ops.split(t, query, [heads * still * rows, heads * turning * rows])
    del query
    rank = run.out("kv_a") - turning
    latent, key = ops.split(t, run.linear(x, "kv_a"), [rank * rows, turning * rows])
    latent = run.norm(latent, "kv_a_norm")
    cos, sin = run.shared.tables["full"]
    turn = _interleaved if run.traits.interleaved else None
    rotating = turn(t, rotating, cos, sin) if turn else rotated(run, rotating, cos, sin, heads, turning)
    key = turn(t, key, cos, sin) if turn else rotated(run, key, cos, sin, 1, turning)
    query = ops.cat(t, passing, rotating)
    del passing, rotating
    both = run.linear(latent, "kv_b")
    del latent
    still_key, value = ops.split(t, both, [heads * still * rows, heads * shape.value * rows])
    del both
    wide = t.new(heads * shape.width * rows, still_key.element)
    wide = ops.written(t, wide, still_key)
    wide = ops.written(t, wide, key, heads * turning * rows)
    return query, wide, value


def _latent_at_once(run: Run, x: Value, shape: Shape) -> tuple[Value, Value, Value]:
    """The same with kernels that rotate queries where they lie, and write keys and values anew."""
    t, rows, heads = run.tape, run.rows, shape.heads
    turning = run.shared.rotary
    if "query_a" in run.ops:
        query = run.linear(run.norm(run.linear(x, "query_a"), "query_a_norm"), "query_b")
    else:
        query = run.linear(x, "query")
    rank = run.out("kv_a") - turning
    latent, rotary = ops.split(t, run.linear(x, "kv_a"), [rank * run.local, turning * run.local])
    del x
    both = run.linear(run.norm(latent, "kv_a_norm"), "kv_b")
    del latent
    query = t.link(Value(query.storage, query.numel, query.element), t.node(query), lambda g, node: [g])
    node = t.node(both, rotary)
    sizes = both.numel, rotary.numel
    key = t.new(heads * shape.width * rows, both.element)
    value = t.new(heads * shape.value * rows, both.element)
    element = both.element
    del both, rotary

    def back(*given: object) -> list[Value | None]:
        return [
            t.new(n, element) if node is not None and node.needs(i) else None for i, n in enumerate(sizes)
        ]

    if node is not None:
        node.outputs = 2
    return query, t.link(key, node, back, 0), t.link(value, node, back, 1)


# -- kernels ---------------------------------------------------------------------------------


def core(run: Run, query: Value, key: Value, value: Value, shape: Shape) -> Value:
    """The attention proper; recomputed in backward where the plan says so."""
    kernel = {"eager": _eager, "math": _composed}.get(kernel_of(run, shape), _fused)

    def forward(query: Value, key: Value, value: Value) -> Value:
        return kernel(run, query, key, value, shape)

    if "mla_up_proj" in run.plan.modules and "kv_b" in run.ops:
        for one in (query, key, value):
            one.storage.remade = True
    if "core_attn" in run.plan.modules:
        return run.tape.checkpoint(forward, query, key, value)
    return forward(query, key, value)


def kernel_of(run: Run, shape: Shape) -> str:
    """Which kernel runs: capped scores and sinks have no fused one but flash.

    One key head that nobody repeats has none in PyTorch, which then composes it of simple operations.
    """
    wanted = run.plan.attention
    if wanted != "sdpa":
        return wanted
    has_sinks = any(tensor.role == "sinks" for tensor in run.group.tensors)
    if run.traits.capped or has_sinks:
        return "eager"
    return "math" if run.traits.picks_heads and shape.kv_heads < shape.heads else "sdpa"


def _composed(run: Run, query: Value, key: Value, value: Value, shape: Shape) -> Value:
    """PyTorch's attention where no fused kernel takes it: in fp32, with all scores."""
    t, rows, narrow = run.tape, run.rows, query.element
    query, key, value = (ops.cast(t, one, 4) for one in (query, key, value))
    t.label = SCORES
    mask = t.new(run.seq * run.seq, 4)
    left = _by_head(run, ops.scale(t, query), lies_by_head(run))
    right = ops.scale(t, key)
    if shape.kv_heads < shape.heads:
        right = _repeated(run, right, shape.heads * shape.width * rows, shape)
        value = _repeated(run, value, shape.heads * shape.value * rows, shape)
    right = _by_head(run, right, lies_by_head(run))
    scores = ops.saving_output(t, ops.matmul(t, left, right, shape.heads * rows * run.seq))
    del mask, left, right
    t.label = ATTENTION
    value = _by_head(run, value, False)
    out = ops.cast(t, ops.matmul(t, scores, value, shape.heads * shape.value * rows), narrow)
    return ops.copy(t, out)


def lies_by_head(run: Run) -> bool:
    """Whether queries are put together anew, so that the tokens of each head lie side by side in memory."""
    if run.recipe.rotation == "joined":
        return True
    if run.recipe.contiguous:
        return False
    return "kv_b" in run.ops or run.traits.joins or 0 < run.shared.rotary < Shape(run.group).width


def _repeated(run: Run, x: Value, numel: Quantity, shape: Shape) -> Value:
    """Keys or values for every query head: a copy, or of a single head a view."""
    t = run.tape
    if shape.kv_heads > 1:
        return ops.repeat(t, x, numel)
    node, own = t.node(x), x.numel
    return t.link(Value(x.storage, numel, x.element), node, lambda g, node: [t.new(own, g.element)])


def _by_head(run: Run, x: Value, already: bool) -> Value:
    """What a batched product reads: of several sequences, a copy in which each head's tokens lie together."""
    return x if already or run.single else ops.copy(run.tape, x)


def _fused(run: Run, query: Value, key: Value, value: Value, shape: Shape) -> Value:
    """Fused kernels save queries, keys, values, the result and the sums of each row.

    The result lies in memory as the queries do; if that is head by head, a copy of it goes on.
    """
    t, rows = run.tape, run.rows
    masked = run.plan.attention == "sdpa" and run.shared.masks.get(shape.window) is not None
    flash = run.plan.attention.startswith("flash")
    shares = flash or (not masked and shape.width == shape.value <= WIDEST)
    grouped = shape.kv_heads < shape.heads
    if grouped and (run.recipe.repeats or not shares):
        grouped = False
        key = _repeated(run, key, shape.heads * shape.width * rows, shape)
        value = _repeated(run, value, shape.heads * shape.value * rows, shape)
    if run.plan.autocast:
        query, key, value = (ops.cast(t, one, run.element) for one in (query, key, value))
    packs = flash and run.plan.padded
    if packs:  # only what is no padding is attended to
        query, key, value = (ops.copy(t, one) for one in (query, key, value))
    mask: Value | None = None
    if masked:
        t.label = SCORES
        mask = t.new(rows * run.seq, query.element)
        t.label = ATTENTION
    sizes = [query.numel, key.numel, value.numel]
    element, scratch = (
        query.element,
        0 if run.plan.watched else shape.scratch(query.element, grouped, run.plan.attention) * rows,
    )
    node = t.node(query, key, value)
    t.save(node, query, key, value, *([mask] if mask is not None else []))
    out = t.product(shape.heads * shape.value * rows, element, costly=True)
    sums = t.product(shape.heads * rows, 4, costly=True)
    t.save(node, out, sums)

    def back(g: Value, node: Node) -> list[Value | None]:
        wide = t.new(scratch, 1)  # the gradient of queries is summed in fp32
        made: list[Value | None] = [t.new(n, element) if node.needs(i) else None for i, n in enumerate(sizes)]
        del wide
        return made

    out = t.link(out, node, back)
    mesh = run.plan.mesh
    spread = 1 if mesh is None else mesh.cp
    if spread > 1 and mesh is not None and mesh.cp_comm == "p2p":
        rounds = t.new(spread * out.numel, out.element)  # each round's result, until all are weighed together
        del rounds
    exchanged = spread > 1 and mesh is not None and mesh.cp_comm == "a2a"  # what comes back is new
    return ops.copy(t, out) if packs or exchanged or lies_by_head(run) else out


def _eager(run: Run, query: Value, key: Value, value: Value, shape: Shape) -> Value:
    """All scores of all heads; the softmax in fp32, but with sinks in the model's dtype."""
    t, rows = run.tape, run.rows
    number = shape.heads * rows * run.seq
    repeats, headed = 1 < shape.kv_heads < shape.heads, lies_by_head(run)
    if shape.kv_heads < shape.heads:
        key = _repeated(run, key, shape.heads * shape.width * rows, shape)
        value = _repeated(run, value, shape.heads * shape.value * rows, shape)
    if run.plan.autocast:
        query, key, value = (ops.cast(t, one, run.element) for one in (query, key, value))
    t.label = SCORES
    if run.traits.wide_scores:
        query, key = ops.cast(t, query, 4), ops.cast(t, key, 4)
    scores = _scores(run, query, key, number, headed, headed or repeats)
    if run.traits.capped:
        scores = ops.scale(t, scores)
        scores = ops.saving_output(t, scores)
        scores = ops.scale(t, scores)
    scores = ops.shift(t, scores)  # masked
    if any(tensor.role == "sinks" for tensor in run.group.tensors):
        weights = _with_sinks(run, scores, number, shape.heads)
    elif run.traits.narrow_softmax or scores.element == 4:
        weights = ops.cast(t, ops.saving_output(t, scores), value.element)
    else:
        weights = ops.cast(t, ops.softmax(t, scores, run.plan.watched), value.element)
    del scores
    if run.traits.drops("attention_dropout", "attn_pdrop"):
        weights = dropout(t, weights)
    run.lingering.append(weights)  # returned beside the output, and named to the end of the layer
    t.label = ATTENTION
    value = _by_head(run, value, repeats)
    return ops.copy(t, ops.matmul(t, weights, value, shape.heads * shape.value * rows))


def _scores(run: Run, query: Value, key: Value, number: Quantity, headed: bool, key_headed: bool) -> Value:
    t = run.tape
    made = ops.matmul(t, _by_head(run, query, headed), _by_head(run, key, key_headed), number)
    return ops.scale(t, made)


def _with_sinks(run: Run, scores: Value, number: Quantity, heads: int) -> Value:
    """A learned score beside those of each row, dropped again after the softmax."""
    t = run.tape
    sink = run.weight("sinks", "")
    beside = Value(t.new(0, 1).storage, heads * run.rows, scores.element)
    beside = t.link(beside, t.node(sink), lambda g, node: [t.new(heads, g.element)])
    joined = ops.cat(t, scores, beside)
    del scores, beside
    lowered = ops.less_largest(t, joined, heads * run.rows)
    del joined
    return ops.part(t, ops.saving_output(t, lowered), number)


__all__ = ["NORMS", "attend", "core", "kernel_of", "rotated", "table_of"]
