"""Sparse latent attention (DeepSeek-V3.2, GLM-5): an indexer scores what is cached, attention reads the best.

The choice arrives in attention as a mask, full at first, opened where the chosen are.
"""

from __future__ import annotations

from llmcalc.memory.engines.llamacpp.batch import Batch, Indexed
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, norm

TOP = 2048
"""Cached positions that are chosen for each token: the same in all models so far. [tokens]"""


def choose(graph: Graph, batch: Batch, layer: Layer, x: Node, narrow: Node) -> Node:
    """The cached positions that a layer attends to; `narrow` is its query before it is widened."""
    inputs, tokens, many = batch.indexed, x.ne[1], batch.streams
    width, heads = layer.rows("index_key"), layer.rows("index_weights")
    query = graph.linear(heads * width, narrow, "index_query")
    query = graph.like("rope", graph.reshape(query, width, heads, tokens), batch.positions)
    key = norm(graph, layer, graph.linear(width, x, "index_key"), "index_key_norm")
    key = graph.like("rope", graph.reshape(key, width, 1, tokens), batch.positions)
    query, key = graph.mul_mat(inputs.turn, query), graph.mul_mat(inputs.turn, key)
    cache = _store(graph, batch, inputs, key)
    weights = graph.linear(heads, x, "index_weights")
    kept = graph.view(cache, (width, 1, inputs.cells, many))
    query = graph.view(query, (width, heads, tokens // many, many), query.strides[:3])
    weights = graph.view(weights, (heads, tokens // many, 1, many), weights.strides[:2])
    weights = graph.like("scale", weights)
    scores = graph.result(
        "indexer", "f32", (inputs.cells, tokens // many, 1, many), query, kept, weights, inputs.mask
    )
    best = graph.result("top_k", "i32", (min(TOP, inputs.cells), *scores.ne[1:]), scores)
    return graph.cont(best)


def _store(graph: Graph, batch: Batch, inputs: Indexed, key: Node) -> Node:
    """Keep the new keys; the cache they lie in."""
    width, many = key.ne[0], batch.streams
    cache = graph.cache(inputs.key.kind, inputs.key.width, width, inputs.cells, many)
    flat = graph.view(key, (width, key.ne[2]), (4, key.strides[2]))
    store = graph.reshape(cache, width, inputs.cells * many) if many > 1 else cache
    graph.expand(graph.write("set_rows", store, flat, inputs.rows))
    return cache


def opened(graph: Graph, mask: Node, best: Node) -> Node:
    """The mask of attention with all closed but what was chosen."""
    cells, tokens, _, many = mask.ne
    closed = graph.like("fill", mask)
    closed = graph.view(closed, (1, cells, tokens, many), (closed.strides[0], *closed.strides[:2]))
    chosen = graph.view(best, (best.ne[0], tokens, many), (best.strides[1], best.strides[2]))
    zeros = graph.like("fill", graph.input("f32", 1, best.ne[0], tokens, many))
    made = graph.write("set_rows", closed, zeros, chosen)
    made = graph.view(made, (cells, tokens, 1, many))
    return graph.like("add", made, mask)
