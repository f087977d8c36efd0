"""The graph of a whole model: embedding, layers, head, in the order in which llama.cpp writes them."""

from __future__ import annotations

from collections.abc import Sequence

from llmcalc.memory.engines.llamacpp import altup, attention, encoder, feed_forward, per_layer, recurrent
from llmcalc.memory.engines.llamacpp.batch import Batch, Settings
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, Outside, norm
from llmcalc.memory.engines.llamacpp.traits import AFTER_NORM, BEFORE_NORM, LAST_LAYER, Traits


def write(
    layers: Sequence[Layer], settings: Settings, hidden: int, vocabulary: int, traits: Traits,
    outside: Outside | None = None,
) -> Graph:  # fmt: skip
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
    outside : Outside, optional
        Tensors outside the layers; biases of the head and further embeddings are not seen without it.
    """
    graph = Graph()
    outside = outside or Outside()
    batch = Batch(graph, settings, list(layers), traits)
    if traits.encodes:
        encoder.write(graph, batch, layers, outside, hidden)
        return graph
    x = embed(graph, batch, outside, hidden)
    own = per_layer.inputs(graph, batch, outside, x, len(layers)) if outside.has("layer_embedding") else None
    has_streams = outside.has("altup_in_0")
    if has_streams:
        x = altup.spread(graph, outside, x)
    for place, layer in enumerate(layers):
        graph.layer = place
        if has_streams and own is not None:
            x = altup.run(graph, batch, layer, x, per_layer.part(graph, own))
            continue
        picks = place == len(layers) - 1 and traits.picks == LAST_LAYER
        x = _layer(graph, batch, layer, x, picks)
        if own is not None:
            x = per_layer.add(graph, layer, x, per_layer.part(graph, own))
        if layer.has("layer_scalar"):
            x = graph.like("mul", x, weight="layer_scalar")
    if has_streams:
        x = altup.joined(graph, x)
    graph.layer = len(layers)
    graph.expand(_head(graph, batch, outside, x, vocabulary))
    return graph


def embed(graph: Graph, batch: Batch, outside: Outside, hidden: int) -> Node:
    """Embeddings of tokens, and of their places where these are learned."""
    tokens = graph.input("i32", batch.settings.tokens)
    x = graph.result("get_rows", "f32", (hidden, tokens.ne[0]), tokens, weight="embedding")
    x = graph.expand(x)
    # Embeddings of images would come in here; the room is reserved for text too.
    graph.expand(graph.input("f32", hidden, tokens.ne[0]))
    if batch.traits.scaled:
        x = graph.like("scale", x)
    if outside.has("position"):
        x = graph.like("add", x, graph.result("get_rows", "f32", x.ne, batch.positions, weight="position"))
    if outside.has("embedding_norm"):
        x = norm(graph, outside, x, "embedding_norm")
    return x


def _head(graph: Graph, batch: Batch, outside: Outside, x: Node, vocabulary: int) -> Node:
    """Final norm, the positions asked for, logits; results stay until the graph ends."""
    traits = batch.traits
    if traits.picks == BEFORE_NORM:
        x.kept = traits.keeps_hidden
        x = graph.get_rows(x, batch.out_rows)
    x = norm(graph, outside, x, "final_norm", traits.centred)
    if traits.picks == AFTER_NORM:
        x.kept = traits.keeps_hidden
        x = graph.get_rows(x, batch.out_rows)
    x.kept = True
    logits = graph.linear(vocabulary, x, "unembedding")
    if outside.has_bias("unembedding"):
        logits = graph.like("add", logits, weight="unembedding")
    if traits.scales_logits:
        logits = graph.like("scale", logits)
    if traits.caps_logits:
        logits = graph.like("scale", graph.like("unary", graph.like("scale", logits)))
    logits.kept = True
    return logits


def _layer(graph: Graph, batch: Batch, layer: Layer, x: Node, picks: bool) -> Node:
    traits, residual = batch.traits, x
    inner = x
    for role in ("attn_norm", "mixer_norm"):
        if layer.has(role):
            inner = norm(graph, layer, x, role, traits.centred)
    if layer.has("delta_out"):
        graph.expand(inner)
    if layer.has("ssm_in") and layer.has("query"):
        return _double(graph, batch, layer, x, inner, picks)
    out = _mixer(graph, batch, layer, inner)
    if picks:
        out, residual = graph.get_rows(out, batch.out_rows), graph.get_rows(residual, batch.out_rows)
    if traits.parallel:
        if layer.has("ffn_norm"):
            inner = norm(graph, layer, residual, "ffn_norm", traits.centred)
        elif picks:
            inner = graph.get_rows(inner, batch.out_rows)
        parts = {"mixer": out, "residual": residual, "ffn": _feed_forward(graph, batch, layer, inner)}
        first, second, third = (parts[word] for word in traits.parallel)
        return graph.like("add", graph.like("add", first, second), third)
    if traits.scales_residual:
        out = graph.like("scale", out)
    if layer.has("post_attn_norm"):
        out = norm(graph, layer, out, "post_attn_norm", traits.centred)
    x = _sum(graph, out, residual, "mixer" in traits.ahead)
    if not _mixes(layer) or not (layer.has("down") or layer.has("router")):
        return x
    if layer.has("before_experts_norm"):
        out = feed_forward.beside(graph, batch, layer, x)
    else:
        inner = norm(graph, layer, x, "ffn_norm", traits.centred) if layer.has("ffn_norm") else x
        out = _feed_forward(graph, batch, layer, inner)
    if traits.scales_residual:
        out = graph.like("scale", out)
    if layer.has("post_ffn_norm"):
        out = norm(graph, layer, out, "post_ffn_norm", traits.centred)
    return _sum(graph, out, x, "ffn" in traits.ahead)


def _double(graph: Graph, batch: Batch, layer: Layer, x: Node, inner: Node, picks: bool) -> Node:
    """A layer with attention and a state space side by side (Falcon-H1), each after its own norm."""
    out = attention.grouped(graph, batch, layer, inner)
    other = recurrent.mamba2(graph, batch, layer, norm(graph, layer, x, "attn_norm"))
    x = graph.like("add", graph.like("add", out, other), x)
    if picks:
        x = graph.get_rows(x, batch.out_rows)
    out = _feed_forward(graph, batch, layer, norm(graph, layer, x, "ffn_norm"))
    return graph.like("add", out, x)


def _sum(graph: Graph, out: Node, residual: Node, ahead: bool) -> Node:
    """What a half of a layer adds; the argument named first is the one written over."""
    return graph.like("add", residual, out) if ahead else graph.like("add", out, residual)


MIXERS = "delta_out", "short_in", "ssm_in", "key_b", "query", "qkv"


def _mixes(layer: Layer) -> bool:
    """Whether a layer is more than a feed-forward."""
    return any(map(layer.has, MIXERS))


def _mixer(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """Whatever mixes positions, or the feed-forward where that is all that a layer is."""
    if layer.has("delta_query"):
        return recurrent.kimi_delta(graph, batch, layer, x)
    if layer.has("delta_out"):
        return recurrent.delta_net(graph, batch, layer, x)
    if layer.has("short_in"):
        return recurrent.short_convolution(graph, batch, layer, x)
    if layer.has("ssm_x"):
        return recurrent.mamba(graph, batch, layer, x)
    if layer.has("ssm_in"):
        return recurrent.mamba2(graph, batch, layer, x)
    if layer.has("key_b"):
        return attention.latent(graph, batch, layer, x)
    if layer.has("query") or layer.has("qkv"):
        return attention.grouped(graph, batch, layer, x)
    return _feed_forward(graph, batch, layer, x)


def _feed_forward(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    if not layer.has("router"):
        return feed_forward.dense(graph, batch, layer, x)
    out = feed_forward.experts(graph, batch, layer, x)
    if layer.has("shared_down"):
        return graph.like("add", out, feed_forward.shared(graph, batch, layer, x))
    return out
