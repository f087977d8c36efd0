"""Embeddings of each layer's own (Gemma 3n, Gemma 4): one table for all layers, a gate in each."""

from __future__ import annotations

from llmcalc.memory.engines.llamacpp.batch import Batch
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, Outside, norm


def inputs(graph: Graph, batch: Batch, outside: Outside, x: Node, layers: int) -> Node:
    """What each layer adds, by layer: rows of the second table, mixed with the first embedding."""
    tokens, rows = batch.settings.tokens, outside.rows("layer_projection")
    width = rows // layers
    ids = graph.input("i32", tokens)
    own = graph.result("get_rows", "f32", (rows, tokens), ids, weight="layer_embedding")
    own = graph.expand(graph.like("scale", graph.reshape(own, width, layers, tokens)))
    mixed = graph.like("scale", graph.linear(rows, x, "layer_projection"))
    mixed = norm(graph, outside, graph.reshape(mixed, width, layers, tokens), "layer_projection_norm")
    both = graph.like("scale", graph.like("add", mixed, own))
    return graph.cont(graph.permute(both, 0, 2, 1, 3))


def part(graph: Graph, extra: Node) -> Node:
    """The part of one layer."""
    return graph.view(extra, extra.ne[:2])


def mixed_in(graph: Graph, layer: Layer, x: Node, own: Node) -> Node:
    """A layer's own embedding, gated by the state, in its width."""
    gated = graph.like("unary", graph.linear(layer.rows("input_gate"), x, "input_gate"))
    out = graph.linear(layer.rows("input_projection"), graph.like("mul", gated, own), "input_projection")
    return norm(graph, layer, out, "input_norm")


def add(graph: Graph, layer: Layer, x: Node, own: Node) -> Node:
    """The state with a layer's own embedding added."""
    return graph.like("add", x, mixed_in(graph, layer, x, own))
