"""Block-sparse attention (MiniMax-M3): each group of heads reads the blocks that an indexer likes best.

Only with flash attention and a cache of its own for each sequence; attention is dense otherwise. The
choice is written into a mask, a sequence at a time.
"""

from __future__ import annotations

from llmcalc.memory.engines.llamacpp.batch import Batch, Blocks
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, norm

BLOCK, CHOSEN = 128, 16
"""Positions of a block, and blocks that are read. [tokens], [-]"""


def remember(graph: Graph, batch: Batch, layer: Layer, x: Node) -> tuple[Node, Node]:
    """The indexer's queries, and the cache in which its keys are stored."""
    inputs, tokens, many = batch.blocks, x.ne[1], batch.streams
    width, cells = layer.rows("index_key"), batch.settings.cells
    heads = layer.rows("index_query") // width
    query = graph.reshape(graph.linear(width * heads, x, "index_query"), width, heads, tokens)
    key = graph.reshape(graph.linear(width, x, "index_key"), width, 1, tokens)
    query = graph.like("rope", norm(graph, layer, query, "index_query_norm"), batch.positions)
    key = graph.like("rope", norm(graph, layer, key, "index_key_norm"), batch.positions)
    kept = batch.settings.key
    cache = graph.cache(kept.kind, kept.width, width, cells, many)
    flat = graph.view(key, (width, tokens), (4, key.strides[2]))
    store = graph.reshape(cache, width, cells * many) if many > 1 else cache
    graph.expand(graph.write("set_rows", store, flat, inputs.rows))
    return query, graph.view(cache, (width, 1, cells, many))


def attend(graph: Graph, batch: Batch, indexer: tuple[Node, Node], query: Node, k: Node, v: Node) -> Node:
    """The result for all tokens, heads joined; `k` and `v` are the caches of all sequences."""
    inputs, joined = batch.blocks, None
    tokens = query.ne[2] // batch.streams
    for _ in range(batch.streams):
        mask = _opened(graph, batch, inputs, indexer)
        part = graph.view(query, (*query.ne[:2], tokens), query.strides[:3])
        keys, values = (graph.view(x, (*x.ne[:3], 1), x.strides) for x in (k, v))
        keys, values = (graph.permute(x, 0, 3, 1, 2) for x in (keys, values))
        out = _flash(graph, part, keys, values, mask)
        if joined is None:
            joined = out
        else:
            joined = graph.result("concat", "f32", (out.ne[0], joined.ne[1] + tokens), joined, out)
    assert joined is not None
    return joined


def _flash(graph: Graph, query: Node, k: Node, v: Node, mask: Node) -> Node:
    """Flash attention with a mask of its own for each group of heads."""
    width, heads, tokens = query.ne[:3]
    groups = k.ne[3]
    query = graph.reshape(query, width, heads // groups, groups, tokens)
    query = graph.permute(query, 0, 2, 3, 1)
    out = graph.result("flash", "f32", (width, heads // groups, tokens, groups), query, k, v, mask)
    out = graph.permute(out, 0, 1, 3, 2)
    if not out.is_contiguous:
        out = graph.cont(out)
    return graph.reshape(out, width * heads, tokens)


def _opened(graph: Graph, batch: Batch, inputs: Blocks, indexer: tuple[Node, Node]) -> Node:
    """The mask of one sequence: shut, but for its best blocks."""
    asked, kept = indexer
    width, heads = asked.ne[0], asked.ne[1]
    tokens, cells, seen = asked.ne[2] // batch.streams, kept.ne[2], inputs.seen
    many = seen // BLOCK
    asked = graph.view(asked, (width, heads, tokens), asked.strides[:3])
    keys = graph.view(kept, (width, cells), (kept.strides[0], kept.strides[2]))
    keys = graph.get_rows(keys, graph.view(inputs.slots, (seen,)))
    scores = graph.mul_mat(keys, graph.reshape(asked, width, heads * tokens))
    scores = _added(
        graph, graph.reshape(scores, seen, heads, tokens), _by_token(graph, inputs.places, tokens)
    )
    pooled = graph.result("pool", "f32", (many, heads, tokens), scores)
    bias = _by_token(graph, inputs.bias, tokens)
    best = graph.result("top_k", "i32", (min(CHOSEN, many), heads, tokens), graph.like("add", pooled, bias))
    shut = graph.like("scale", bias)
    shut = graph.result("cpy", "f16", shut.ne, shut)
    shut = graph.result("repeat", "f16", (many, heads, tokens), shut)
    zeros = graph.like("scale", graph.result("cpy", "f32", best.ne, best))
    chosen = best.ne[0]
    open_ = graph.write(
        "set_rows",
        graph.reshape(shut, 1, many, heads * tokens),
        graph.reshape(zeros, 1, chosen, heads * tokens),
        graph.reshape(best, chosen, heads * tokens),
    )
    mask = graph.cont(graph.permute(graph.reshape(open_, many, heads, tokens), 0, 2, 1, 3))
    mask = graph.cont(graph.transpose(graph.reshape(mask, many, tokens * heads)))
    mask = graph.get_rows(mask, graph.view(inputs.cells, (cells,)))
    mask = graph.reshape(graph.cont(graph.transpose(mask)), cells, tokens, heads)
    visible = graph.view(inputs.mask, (cells, tokens, 1), (4, inputs.mask.strides[1], inputs.mask.strides[3]))
    mask = graph.reshape(_added(graph, mask, visible), cells, tokens, 1, heads)
    return graph.result("cpy", "f16", mask.ne, mask)


def _by_token(graph: Graph, x: Node, tokens: int) -> Node:
    """The columns of one sequence's tokens, the same for all heads."""
    return graph.view(x, (x.ne[0], 1, tokens), (4, x.strides[1], x.strides[1]))


def _added(graph: Graph, x: Node, other: Node) -> Node:
    """A sum written over its first argument, whoever else reads it."""
    made = Node("add", x.kind, x.ne, (x, other), x.root or x, x.strides, width=x.width)
    made.layer = graph.layer
    return made
