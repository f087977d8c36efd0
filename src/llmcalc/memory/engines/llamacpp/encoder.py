"""Encoders (BERT and what is built like it): no cache, every token sees every other."""

from __future__ import annotations

from collections.abc import Sequence

from llmcalc.memory.engines.llamacpp import attention, feed_forward
from llmcalc.memory.engines.llamacpp.batch import Batch
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, Outside, norm


def write(graph: Graph, batch: Batch, layers: Sequence[Layer], outside: Outside, hidden: int) -> None:
    """The graph from tokens to one embedding for each sequence, that of its first token."""
    tokens, op = batch.settings.tokens, batch.traits.norm
    x = _embed(graph, batch, outside, hidden)
    masks = [graph.input("f16" if batch.flash else "f32", tokens, tokens) for _ in (False, True)]
    for place, layer in enumerate(layers):
        graph.layer = place
        residual = x
        inner = norm(graph, layer, x, "attn_norm", op) if layer.has("attn_norm") else x
        out = _attention(graph, batch, layer, inner, masks[place % batch.traits.full_every > 0])
        if place == len(layers) - 1:
            out, residual = graph.get_rows(out, batch.out_rows), graph.get_rows(residual, batch.out_rows)
        x = graph.like("add", out, residual)
        if layer.has("post_attn_norm"):
            x = norm(graph, layer, x, "post_attn_norm", op)
        inner = norm(graph, layer, x, "ffn_norm", op) if layer.has("ffn_norm") else x
        x = graph.like("add", feed_forward.dense(graph, batch, layer, inner), x)
        if layer.has("post_ffn_norm"):
            x = norm(graph, layer, x, "post_ffn_norm", op)
    graph.layer = len(layers)
    if outside.has("final_norm"):
        x = norm(graph, outside, x, "final_norm", op)
    x.kept = True
    graph.expand(x)
    pooled = graph.get_rows(x, graph.input("i32", batch.seqs))
    pooled.kept = True
    graph.expand(pooled)


def _embed(graph: Graph, batch: Batch, outside: Outside, hidden: int) -> Node:
    """Embeddings of tokens, segments and places, and their norm."""
    tokens = graph.input("i32", batch.settings.tokens)
    x = graph.expand(graph.result("get_rows", "f32", (hidden, tokens.ne[0]), tokens, weight="embedding"))
    graph.expand(graph.input("f32", hidden, tokens.ne[0]))
    if outside.has("segment"):
        x = graph.like("add", x, graph.view(graph.cache("f32", 4, hidden, 2), (hidden,)))
    if outside.has("position"):
        places = graph.result("get_rows", "f32", x.ne, batch.positions, weight="position")
        x = graph.like("add", places, x)
    return norm(graph, outside, x, "embedding_norm", batch.traits.norm)


def _attention(graph: Graph, batch: Batch, layer: Layer, x: Node, mask: Node) -> Node:
    """Attention over the tokens of the batch itself."""
    heads, width = layer.heads, layer.head_width
    query, key, value = attention.query_key_value(
        graph, layer, x, (heads, heads, heads), (width, width, width)
    )
    if not batch.traits.unrotated:
        query, key = attention.rotate(graph, batch, query), attention.rotate(graph, batch, key)
    for part in (query, key, value):
        graph.expand(part)
    query = graph.view(query, query.ne, query.strides)
    query, key, value = (graph.permute(part, 0, 2, 1, 3) for part in (query, key, value))
    if batch.flash:
        out = attention.flash(graph, mask, query, key, value)
    else:
        value = graph.cont(graph.transpose(value))
        out = attention.plain(graph, batch, mask, query, key, value, width)
    return attention.project(graph, layer, graph.expand(out), "output")
