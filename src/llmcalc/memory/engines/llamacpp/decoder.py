"""The graph of a whole model: embedding, layers, head, in the order in which llama.cpp writes them."""

from __future__ import annotations

from collections.abc import Sequence

from llmcalc.memory.engines.llamacpp import attention, feed_forward, recurrent
from llmcalc.memory.engines.llamacpp.batch import Batch, Settings
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, norm
from llmcalc.memory.engines.llamacpp.traits import AFTER_NORM, BEFORE_NORM, LAST_LAYER, Traits


def write(layers: Sequence[Layer], settings: Settings, hidden: int, vocabulary: int, traits: Traits) -> Graph:
    """The graph that is reserved for so many tokens.

    Parameters
    ----------
    layers : sequence of Layer
        In order, those of the main model.
    settings : Settings
        The batch and its caches.
    hidden, vocabulary : int
        Width of a hidden state, and rows of the head. [elements], [-]
    traits : Traits
        Of the family.
    """
    graph = Graph()
    batch = Batch(graph, settings, list(layers), traits)
    tokens = graph.input("i32", settings.tokens)
    x = graph.expand(graph.result("get_rows", "f32", (hidden, settings.tokens), tokens, weight="embedding"))
    # Embeddings of images would come in here; the room is reserved for text too.
    graph.expand(graph.input("f32", hidden, settings.tokens))
    if traits.scaled:
        x = graph.like("scale", x)
    graph.expand(x)
    for place, layer in enumerate(layers):
        graph.layer = place
        picks = place == len(layers) - 1 and traits.picks == LAST_LAYER
        x = _layer(graph, batch, layer, x, picks)
    graph.layer = len(layers)
    graph.expand(_head(graph, batch, x, vocabulary))
    return graph


def _head(graph: Graph, batch: Batch, x: Node, vocabulary: int) -> Node:
    """Final norm, the positions asked for, logits; results stay until the graph ends."""
    traits = batch.traits
    if traits.picks == BEFORE_NORM:
        x.kept = traits.keeps_hidden
        x = graph.get_rows(x, batch.out_rows)
    x = graph.like("mul", graph.like("rms_norm", x), weight="final_norm")
    if traits.picks == AFTER_NORM:
        x.kept = traits.keeps_hidden
        x = graph.get_rows(x, batch.out_rows)
    x.kept = True
    logits = graph.linear(vocabulary, x, "unembedding")
    if traits.softcap:
        logits = graph.like("scale", graph.like("unary", graph.like("scale", logits)))
    logits.kept = True
    return logits


def _layer(graph: Graph, batch: Batch, layer: Layer, x: Node, picks: bool) -> Node:
    residual = x
    inner = norm(graph, layer, x, "mixer_norm" if layer.has("mixer_norm") else "attn_norm")
    if layer.has("delta_gate"):
        graph.expand(inner)
    out = _mixer(graph, batch, layer, inner)
    if picks:
        out = graph.get_rows(out, batch.out_rows)
        residual = graph.get_rows(residual, batch.out_rows)
    if layer.has("post_attn_norm"):
        out = norm(graph, layer, out, "post_attn_norm")
    x = graph.like("add", out, residual)
    if not layer.has("down") and not layer.has("router"):
        return x
    residual = x
    out = _feed_forward(graph, batch, layer, norm(graph, layer, x, "ffn_norm"))
    if layer.has("post_ffn_norm"):
        out = norm(graph, layer, out, "post_ffn_norm")
    return graph.like("add", out, residual)


def _mixer(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    if layer.has("delta_out"):
        return recurrent.delta_net(graph, batch, layer, x)
    if layer.has("ssm_x"):
        return recurrent.mamba(graph, batch, layer, x)
    if layer.has("ssm_in"):
        return recurrent.mamba2(graph, batch, layer, x)
    if layer.has("key_b"):
        return attention.latent(graph, batch, layer, x)
    return attention.grouped(graph, batch, layer, x)


def _feed_forward(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    if not layer.has("router"):
        return feed_forward.dense(graph, layer, x)
    out = feed_forward.experts(graph, batch, layer, x)
    if layer.has("shared_down"):
        return graph.like("add", out, feed_forward.shared(graph, layer, x))
    return out
