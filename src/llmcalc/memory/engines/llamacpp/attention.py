"""Attention as llama.cpp writes it: projections, the cache, flash or plain, latent."""

from __future__ import annotations

from llmcalc.memory.engines.llamacpp import blocks, indexer
from llmcalc.memory.engines.llamacpp.batch import Batch, Streams
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, bias_of, norm

GATES = "output_gate", "attn_gate", "head_gate"


def project(graph: Graph, layer: Layer, x: Node, role: str, clamps: bool = False) -> Node:
    """A linear layer, and its bias where it has one; it may be clamped."""
    made = graph.linear(layer.rows(role), x, role)
    made = graph.like("add", made, weight=bias_of(role)) if layer.has_bias(role) else made
    return graph.like("clamp", made) if clamps else made


def query_key_value(
    graph: Graph, layer: Layer, x: Node, heads: tuple[int, int, int], widths: tuple[int, int, int],
    clamps: bool = False, apart: bool = False,
) -> tuple[Node, Node, Node]:  # fmt: skip
    """Queries, keys and values by head, of one fused matrix (copied `apart` or not) or of three."""
    tokens = x.ne[1]
    if layer.rows("qkv"):
        fused = project(graph, layer, x, "qkv", clamps)
        step = fused.strides
        parts = [
            graph.view(fused, (width, many, tokens), (4, 4 * width, step[1]))
            for width, many in zip(widths, heads, strict=True)
        ]
        if apart:
            parts = [graph.reshape(graph.cont(part), *part.ne) for part in parts]
    else:
        parts = [
            graph.reshape(project(graph, layer, x, role, clamps), width, many, tokens)
            for role, width, many in zip(("query", "key", "value"), widths, heads, strict=True)
        ]
    return parts[0], parts[1], parts[2]


def rotate(graph: Graph, batch: Batch, x: Node) -> Node:
    """Rotary positions."""
    return graph.like("rope", x, batch.positions)


def hadamard(graph: Graph, x: Node, matrix: Node) -> Node:
    """The rotation that precedes a quantized cache."""
    side = matrix.ne[0]
    many = x.ne[0] * x.ne[1] * x.ne[2] * x.ne[3] // side
    flat = graph.reshape(x, side, many) if x.is_contiguous else graph.cont(x, side, many)
    return graph.reshape(graph.mul_mat(matrix, flat), *x.ne)


def attend(
    graph: Graph, batch: Batch, streams: Streams, query: Node, key: Node | None, value: Node | None,
    widths: tuple[int, int, int], latent_value: int = 0, index: tuple[Node, Node] | None = None,
) -> Node:  # fmt: skip
    """Store keys and values, attend, and join the heads: up to the output projection.

    Keys and values are None where the layer reads what an earlier one stored; `widths` are the number of
    key heads and the widths of a key and of a value; `latent_value` is the width of a head after its
    latent is expanded, 0 where there is none; `index` are queries and keys that choose blocks.
    """
    if streams.key_turn is not None and not latent_value:
        query = hadamard(graph, query, streams.key_turn)
        key = key and hadamard(graph, key, streams.key_turn)
    if streams.value_turn is not None and value is not None and not latent_value:
        value = hadamard(graph, value, streams.value_turn)
    keys_first = streams.mixed or index is not None or not batch.settings.era.values_first
    order = (query, key, value) if keys_first else (query, value, key)
    for node in order:
        if node is not None:
            graph.expand(node)
    kv_heads, key_width, value_width = widths
    caches = _caches(graph, batch, streams, widths)
    _store(graph, batch, streams, key, None if latent_value else value, widths, caches)
    if index is not None:
        shape = kv_heads, streams.cells, batch.streams
        k = graph.view(caches[0], (key_width, *shape))
        v = graph.view(caches[1], (value_width, *shape))
        joined = blocks.attend(graph, batch, index, query, k, v)
        return joined if streams.value_turn is None else hadamard(graph, joined, streams.value_turn)
    tokens = query.ne[2]
    step = query.strides
    many = batch.streams
    query = graph.view(
        query,
        (query.ne[0], query.ne[1], tokens // many, many),
        (step[0], step[1], step[2], step[2] * tokens // many),
    )
    query = graph.permute(query, 0, 2, 1, 3)
    k = graph.view(caches[0], (key_width, kv_heads, streams.cells, many))
    v = graph.view(k if latent_value else caches[1], (value_width, kv_heads, streams.cells, many))
    k, v = graph.permute(k, 0, 2, 1, 3), graph.permute(v, 0, 2, 1, 3)
    mask = streams.mask
    if latent_value and batch.best is not None:
        mask = indexer.opened(graph, mask, batch.best)
    if batch.flash:
        joined = flash(graph, mask, query, k, v, latent_value)
    else:
        if latent_value:  # the latent is read as values, transposed
            v = graph.cont(graph.transpose(v))
        joined = plain(graph, batch, mask, query, k, v, value_width, latent_value)
    graph.expand(joined)
    if streams.value_turn is not None and not latent_value:
        joined = hadamard(graph, joined, streams.value_turn)
    return joined


def _caches(graph: Graph, batch: Batch, streams: Streams, widths: tuple[int, int, int]) -> tuple[Node, Node]:
    """The stores of keys and of values of one layer."""
    kv_heads, key_width, value_width = widths
    cells = streams.cells, batch.streams
    return (
        graph.cache(streams.key.kind, streams.key.width, key_width * kv_heads, *cells),
        graph.cache(streams.value.kind, streams.value.width, value_width * kv_heads, *cells),
    )


def _store(
    graph: Graph, batch: Batch, streams: Streams, key: Node | None, value: Node | None,
    widths: tuple[int, int, int], caches: tuple[Node, Node],
) -> None:  # fmt: skip
    kv_heads, key_width, value_width = widths
    if key is not None:
        flat = graph.view(key, (key_width * kv_heads, key.ne[2]), (4, key.strides[2]))
        cache = _joined(graph, batch, caches[0])
        if streams.key_rows is None:
            graph.expand(graph.write("cpy", graph.view(cache, flat.ne), flat))
        else:
            graph.expand(graph.write("set_rows", cache, flat, streams.key_rows))
    if value is None:
        return
    width = value_width * kv_heads
    cache = caches[1]
    if streams.value_rows is None:
        merged = value.strides[2] == 4 * width
        flat = graph.reshape(value, width, value.ne[2]) if merged else graph.cont(value, width, value.ne[2])
        flat = flat if batch.flash else graph.transpose(flat)
        graph.expand(graph.write("cpy", graph.view(cache, flat.ne), flat))
        return
    if batch.flash:
        cache = _joined(graph, batch, cache)
        flat = graph.view(value, (width, value.ne[2]), (4, value.strides[2]))
    else:
        merged = value.strides[2] == 4 * width
        flat = graph.reshape(value, width, value.ne[2]) if merged else graph.cont(value, width, value.ne[2])
        if width < streams.widest:
            flat = graph.result("pad", "f32", (streams.widest, value.ne[2]), flat)
        flat = graph.reshape(flat, 1, flat.ne[0] * flat.ne[1])
        cache = graph.reshape(cache, 1, cache.ne[0] * cache.ne[1] * cache.ne[2])
    graph.expand(graph.write("set_rows", cache, flat, streams.value_rows))


def _joined(graph: Graph, batch: Batch, cache: Node) -> Node:
    """The cache of all streams as one."""
    return graph.reshape(cache, cache.ne[0], cache.ne[1] * cache.ne[2]) if batch.streams > 1 else cache


def flash(graph: Graph, mask: Node, query: Node, k: Node, v: Node, latent_value: int = 0) -> Node:
    """Flash attention: no scores are kept; it reads 16-bit or quantized caches only."""
    if k.kind == "f32":
        k = graph.result("cpy", "f16", k.ne, k)
    if v.kind == "f32":
        v = graph.result("cpy", "f16", v.ne, v)
    tokens, heads, many = query.ne[1], query.ne[2], query.ne[3]
    out = graph.result("flash", "f32", (v.ne[0], heads, tokens, many), query, k, v, mask)
    if latent_value:
        out = graph.permute(out, 0, 2, 1, 3)
        out = graph.linear(latent_value, out, "value_b")
        out = graph.cont(graph.permute(out, 0, 2, 1, 3))
    return graph.reshape(out, out.ne[0] * out.ne[1], out.ne[2] * out.ne[3])


def plain(
    graph: Graph, batch: Batch, mask: Node, query: Node, k: Node, v: Node, value_width: int,
    latent_value: int = 0,
) -> Node:  # fmt: skip
    """Attention with its scores in memory."""
    scores = graph.result("mul_mat", "f32", (k.ne[1], query.ne[1], query.ne[2], query.ne[3]), k, query)
    if batch.traits.softcap:
        scores = graph.like("scale", graph.like("unary", graph.like("scale", scores)))
    scores = graph.like("soft_max", scores, mask)
    out = graph.result("mul_mat", "f32", (value_width, *scores.ne[1:]), v, scores)
    if latent_value:
        out = graph.linear(latent_value, out, "value_b")
    out = graph.permute(out, 0, 2, 1, 3)
    return graph.cont(out, out.ne[0] * out.ne[1], out.ne[2] * out.ne[3])


def grouped(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """Multi-head and grouped-query attention: norms, positions, the cache, a gate where there is one."""
    traits, lender = batch.traits, batch.lender(layer)
    widths = lender.kv_heads, lender.head_width, lender.value_width
    query, key, value, gate = _projected(graph, batch, layer, x)
    rotates = batch.rotates(layer, graph.layer)
    query = _placed(graph, batch, layer, query, "query_norm", rotates)
    if traits.tempers and not rotates:
        query = graph.like("mul", query, batch.temper)
    if traits.scales_query:
        query = graph.like("scale", query)
    if key is not None:
        key = _placed(graph, batch, layer, key, "key_norm", rotates)
    if value is not None and traits.norms_value:
        value = graph.like("rms_norm", value)
    chooses = batch.has_blocks and layer.has("index_query")
    index = blocks.remember(graph, batch, layer, x) if chooses else None
    out = attend(graph, batch, batch.streams_of(layer), query, key, value, widths, index=index)
    if gate is not None:
        out = graph.like("mul", out, graph.like("unary", gate))
    out = project(graph, layer, _gated(graph, layer, out, x), "output")
    return graph.like("scale", out) if traits.scales_output else out


def _gated(graph: Graph, layer: Layer, out: Node, x: Node) -> Node:
    """Attention's output weighed by a gate, if any: a number for each element, or for each head."""
    role = next((role for role in GATES if layer.has(role)), "")
    if not role:
        return out
    heads, tokens, rows = layer.heads, x.ne[1], layer.rows(role)
    gate = graph.like("unary", graph.linear(rows, x, role))
    if rows != heads:
        return graph.like("mul", out, gate)
    out = graph.reshape(out, layer.value_width, heads, tokens)
    out = graph.like("mul", out, graph.reshape(gate, 1, heads, tokens))
    return graph.reshape(out, layer.value_width * heads, tokens)


Projected = tuple[Node, "Node | None", "Node | None", "Node | None"]


def _projected(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Projected:
    """Query, key, value and gate; keys serve as values where there is no matrix for these."""
    heads, kv_heads, width, value_width = layer.heads, layer.kv_heads, layer.head_width, layer.value_width
    tokens = x.ne[1]
    if layer.is_gated:
        both = graph.linear(2 * heads * width, x, "query")
        step = (4, 8 * width, 8 * width * heads)
        if batch.traits.repeats:
            both = graph.reshape(both, 2 * width, heads, tokens)
        query = graph.view(both, (width, heads, tokens), step)
        gate = graph.cont(graph.view(both, (width, heads, tokens), step), width * heads, tokens)
        key = graph.reshape(graph.linear(kv_heads * width, x, "key"), width, kv_heads, tokens)
        value = graph.reshape(graph.linear(kv_heads * value_width, x, "value"), value_width, kv_heads, tokens)
        return query, key, value, gate
    if layer.rows("qkv") or (layer.has("value") and not batch.traits.norms_whole):
        counts, widths = (heads, kv_heads, kv_heads), (width, width, value_width)
        apart = batch.settings.era.copies_fused
        return (*query_key_value(graph, layer, x, counts, widths, batch.traits.clamps, apart), None)
    query = project(graph, layer, x, "query")
    made_key = project(graph, layer, x, "key") if layer.has("key") else None
    made_value = project(graph, layer, x, "value") if layer.has("value") else made_key
    if batch.traits.norms_whole:
        query = norm(graph, layer, query, "query_norm")
        made_key = made_key and norm(graph, layer, made_key, "key_norm")
    return (
        graph.reshape(query, width, heads, tokens),
        made_key and graph.reshape(made_key, width, kv_heads, tokens),
        made_value and graph.reshape(made_value, value_width, kv_heads, tokens),
        None,
    )


def _placed(graph: Graph, batch: Batch, layer: Layer, x: Node, role: str, rotates: bool) -> Node:
    """Queries or keys normed, and rotated to their positions."""
    traits = batch.traits
    if traits.norms_added:
        x = graph.like("mul", graph.like("rms_norm", x), weight=role)
    elif layer.has(role) and not traits.norms_whole:
        x = norm(graph, layer, x, role, traits.norm)
    if rotates:
        x = rotate(graph, batch, x)
        if batch.norms_rotated:
            x = graph.like("rms_norm", x)
    return x


def latent(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """Latent attention over its compressed cache: keys are absorbed into queries, values expanded after."""
    heads, nope = layer.shapes["key_b"][0], layer.shapes["key_b"][2]
    value_width, rank = layer.shapes["value_b"][1], layer.shapes["value_b"][2]
    rotary = layer.rows("kv_a") - rank
    tokens, width = x.ne[1], nope + rotary
    query = _wide_query(graph, batch, layer, x, width * heads)
    if not batch.traits.unrotated and not batch.traits.sparse:
        query = graph.reshape(query, width, heads, tokens)
    both = graph.linear(rank + rotary, x, "kv_a")
    step = both.strides[1]
    compressed = graph.view(both, (rank, tokens), (4, step))
    turned = graph.view(both, (rotary, 1, tokens), (4, step, step))
    rotates = batch.rotates(layer, graph.layer)
    turned = rotate(graph, batch, turned) if rotates else turned
    compressed = graph.like("mul", graph.like("rms_norm", compressed), weight="kv_a_norm")
    if not batch.latent:
        return _expanded(graph, batch, layer, query, compressed, turned)
    step_head, step_token = 4 * width, 4 * width * heads
    plain = graph.view(query, (nope, heads, tokens), (4, step_head, step_token))
    query_turned = graph.view(query, (rotary, heads, tokens), (4, step_head, step_token))
    query_turned = rotate(graph, batch, query_turned) if rotates else query_turned
    plain = graph.permute(plain, 0, 2, 1, 3)
    absorbed = graph.linear(rank, plain, "key_b")
    absorbed = graph.permute(absorbed, 0, 2, 1, 3)
    query = graph.result("concat", "f32", (rank + rotary, heads, tokens), absorbed, query_turned)
    if batch.traits.tempers:
        query = graph.like("mul", query, batch.temper)
    compressed = graph.reshape(compressed, rank, 1, tokens)
    key = graph.result("concat", "f32", (rank + rotary, 1, tokens), compressed, turned)
    out = attend(
        graph, batch, batch.streams_of(layer), query, key, compressed, (1, rank + rotary, rank),
        latent_value=value_width,
    )  # fmt: skip
    return project(graph, layer, _gated(graph, layer, out, x), "output")


def _wide_query(graph: Graph, batch: Batch, layer: Layer, x: Node, rows: int) -> Node:
    """Queries of all heads, of a narrow one where there is one; that one also feeds an indexer."""
    if not layer.has("query_a"):
        return graph.linear(rows, x, "query")
    narrow = norm(graph, layer, graph.linear(layer.rows("query_a"), x, "query_a"), "query_a_norm")
    if layer.has("index_query") and batch.traits.sparse:
        batch.best = indexer.choose(graph, batch, layer, x, narrow)
    return graph.linear(rows, narrow, "query_b")


def _expanded(graph: Graph, batch: Batch, layer: Layer, query: Node, compressed: Node, turned: Node) -> Node:
    """Latent attention whose cache holds the keys and values of all heads."""
    heads, nope, value_width = layer.shapes["key_b"][0], layer.shapes["key_b"][2], layer.shapes["value_b"][1]
    width, tokens, rotary = nope + value_width, query.ne[2], turned.ne[0]
    both = graph.linear(width * heads, compressed, "kv_b")
    step = (4, 4 * width, 4 * width * heads)
    plain = graph.view(both, (nope, heads, tokens), step)
    value = graph.cont(graph.view(both, (value_width, heads, tokens), step))
    spread = graph.result("repeat", "f32", (rotary, heads, tokens), turned)
    key = graph.result("concat", "f32", (nope + rotary, heads, tokens), plain, spread)
    query = rotate(graph, batch, query) if batch.rotates(layer, graph.layer) else query
    out = attend(
        graph, batch, batch.streams_of(layer), query, key, value, (heads, nope + rotary, value_width)
    )
    return project(graph, layer, out, "output")
