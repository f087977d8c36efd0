"""The graph of a whole model: embedding, layers, head, in the order in which llama.cpp writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from llmcalc.memory.engines.llamacpp import (
    altup,
    attention,
    banked,
    encoder,
    feed_forward,
    per_layer,
    recurrent,
)
from llmcalc.memory.engines.llamacpp.batch import Batch, Settings
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, Outside, bias_of, norm
from llmcalc.memory.engines.llamacpp.traits import (
    AFTER_NORM,
    AFTER_POST_NORM,
    BEFORE_NORM,
    LAST_LAYER,
    Traits,
)


def write(
    layers: Sequence[Layer], settings: Settings, hidden: int, vocabulary: int, traits: Traits,
    outside: Outside | None = None, adapters: Mapping[tuple[int, str], Sequence[int]] | None = None,
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
        Tensors outside the layers; without it the head has no biases and tokens one embedding.
    adapters : mapping, optional
        Ranks of the adapters of a weight, by layer (-1 the embedding, their number the head) and role.
    """
    graph = Graph(adapters)
    outside = outside or Outside()
    batch = Batch(graph, settings, list(layers), traits)
    if traits.encodes:
        encoder.write(graph, batch, layers, outside, hidden)
        return graph
    x = embed(graph, batch, outside, hidden)
    x = _body(graph, batch, outside, layers, x)
    graph.layer = len(layers)
    graph.expand(_head(graph, batch, outside, x, vocabulary))
    return graph


def predict(
    layer: Layer, settings: Settings, hidden: int, vocabulary: int, traits: Traits, outside: Outside
) -> Graph:
    """The graph of one prediction layer: a token and the state before it, joined and projected."""
    graph = Graph()
    batch = Batch(graph, settings, [layer], traits)
    tokens = graph.input("i32", settings.tokens)
    state = graph.input("f32", hidden, settings.tokens)
    token = graph.result("get_rows", "f32", (hidden, settings.tokens), tokens, weight="embedding")
    graph.layer = 0
    state = graph.like("mul", graph.like("rms_norm", state), weight="hidden_norm")
    token = graph.like("mul", graph.like("rms_norm", token), weight="embedding_norm")
    joined = graph.result("concat", "f32", (2 * hidden, settings.tokens), token, state)
    x = _layer(graph, batch, layer, graph.linear(hidden, joined, "projection"), False)
    graph.layer = 1
    x = norm(graph, outside, x, "final_norm", traits.norm)
    x = graph.get_rows(x, batch.out_rows)
    logits = graph.linear(vocabulary, x, "unembedding")
    logits.kept = True
    graph.expand(logits)
    return graph


def _body(graph: Graph, batch: Batch, outside: Outside, layers: Sequence[Layer], first: Node) -> Node:
    """All layers; some families carry more than one state from one to the next."""
    traits, x, last = batch.traits, first, len(layers) - 1
    own = None
    if outside.has("layer_embedding"):
        own = per_layer.inputs(graph, batch, outside, x, len(layers))
    if own is not None and outside.has("altup_in_0"):
        x = altup.spread(graph, outside, x)
        for graph.layer, layer in enumerate(layers):
            x = altup.run(graph, batch, layer, x, per_layer.part(graph, own))
        return altup.joined(graph, x)
    if traits.banks:
        bank = banked.Bank(traits.banks)
        for graph.layer, layer in enumerate(layers):
            mixer = partial(_mixer, graph, batch, layer)
            x = banked.run(graph, bank, layer, x, mixer, partial(_feed_forward, graph, batch, layer))
        return bank.mix(graph, x, "last_residual")
    for place, layer in enumerate(layers):
        graph.layer = place
        x = _layer(graph, batch, layer, x, place == last and traits.picks in (LAST_LAYER, AFTER_POST_NORM))
        if own is not None:
            x = per_layer.add(graph, layer, x, per_layer.part(graph, own))
        if place < traits.deepstack:
            x = graph.like("add", x, graph.view(first, first.ne, first.strides))
        if layer.has("layer_scalar"):
            x = graph.like("mul", x, weight="layer_scalar")
    return x


def embed(graph: Graph, batch: Batch, outside: Outside, hidden: int) -> Node:
    """Embeddings of tokens, and of their places where these are learned."""
    tokens = graph.input("i32", batch.settings.tokens)
    x = graph.result("get_rows", "f32", (hidden, tokens.ne[0]), tokens, weight="embedding")
    x = graph.adapted(x, "embedding", tokens, op="get_rows")
    whole = hidden * (1 + batch.traits.deepstack)
    if whole > hidden:
        x = graph.result("pad", "f32", (whole, tokens.ne[0]), x)
    graph.expand(x)
    # Embeddings of images would come in here; the room is reserved for text too.
    if batch.settings.era.takes_embeddings:
        graph.expand(graph.input("f32", whole, tokens.ne[0]))
    if whole > hidden:
        x = graph.expand(graph.view(x, (hidden, tokens.ne[0]), x.strides[:2]))
    if batch.traits.scaled:
        x = graph.like("scale", x)
    if batch.traits.norms_embedding:
        x = graph.like("rms_norm", x)
    if outside.has("position"):
        x = graph.like("add", x, graph.result("get_rows", "f32", x.ne, batch.positions, weight="position"))
    for role in ("embedding_norm", "embed_norm"):
        if outside.has(role):
            x = norm(graph, outside, x, role)
    return x


def _head(graph: Graph, batch: Batch, outside: Outside, x: Node, vocabulary: int) -> Node:
    """Final norm, the positions asked for, logits; results stay until the graph ends."""
    traits = batch.traits
    if traits.picks == BEFORE_NORM:
        x.kept = traits.keeps_hidden
        x = graph.get_rows(x, batch.out_rows)
    x = norm(graph, outside, x, "final_norm", traits.norm)
    if traits.picks == AFTER_NORM:
        x.kept = traits.keeps_hidden
        x = graph.get_rows(x, batch.out_rows)
    x.kept = True
    if traits.scales_normed:
        x = graph.like("scale", x)
    logits = graph.linear(vocabulary, x, "unembedding")
    if outside.has_bias("unembedding"):
        logits = graph.like("add", logits, weight=bias_of("unembedding"))
    if traits.scales_logits:
        logits = graph.like("scale", logits)
    if traits.caps_logits:
        logits = graph.like("scale", graph.like("unary", graph.like("scale", logits)))
    logits.kept = True
    return logits


def _layer(graph: Graph, batch: Batch, layer: Layer, x: Node, picks: bool) -> Node:
    traits, residual = batch.traits, x
    if not _mixes(layer) and layer.has("ffn_norm"):
        x = graph.get_rows(x, batch.out_rows) if picks else x
        return graph.like("add", _feed_forward(graph, batch, layer, norm(graph, layer, x, "ffn_norm")), x)
    inner = _before_mixer(graph, layer, x, traits)
    if layer.has("delta_out"):
        graph.expand(inner)
    if layer.has("ssm_in") and layer.has("query"):
        return _double(graph, batch, layer, x, inner, picks)
    out = _mixer(graph, batch, layer, inner)
    late = traits.picks == AFTER_POST_NORM
    if picks and not late:
        out, residual = graph.get_rows(out, batch.out_rows), graph.get_rows(residual, batch.out_rows)
    if traits.parallel:
        return _parallel(graph, batch, layer, x, (out, residual, inner), picks)
    if traits.scales_residual:
        out = graph.like("scale", out)
    if layer.has("post_attn_norm"):
        out = norm(graph, layer, out, "post_attn_norm", traits.norm)
    if picks and late:
        out, residual = graph.get_rows(out, batch.out_rows), graph.get_rows(residual, batch.out_rows)
    has_more = layer.has("down") or layer.has("router")
    if traits.skips and not has_more:
        return x
    x = _sum(graph, out, residual, "mixer" in traits.ahead)
    if not _mixes(layer) or not has_more:
        return x
    if layer.has("before_experts_norm"):
        out = feed_forward.beside(graph, batch, layer, x)
    else:
        normed = layer.has("ffn_norm") or traits.bare
        inner = norm(graph, layer, x, "ffn_norm", traits.norm) if normed else x
        out = _feed_forward(graph, batch, layer, inner)
    if traits.scales_residual:
        out = graph.like("scale", out)
    if layer.has("post_ffn_norm"):
        out = norm(graph, layer, out, "post_ffn_norm", traits.norm)
    return _sum(graph, out, x, "ffn" in traits.ahead)


def _before_mixer(graph: Graph, layer: Layer, x: Node, traits: Traits) -> Node:
    """The norm before whatever mixes positions, where there is one."""
    role = next((role for role in FIRST_NORMS if layer.has(role)), "")
    return norm(graph, layer, x, role, traits.norm) if role or traits.bare else x


def _parallel(
    graph: Graph, batch: Batch, layer: Layer, x: Node, parts: tuple[Node, Node, Node], picks: bool
) -> Node:
    """Attention and feed-forward of the same state, summed in the family's order."""
    out, residual, inner = parts
    op = batch.traits.norm
    if layer.has("ffn_norm"):
        inner = norm(graph, layer, residual, "ffn_norm", op)
    else:
        if layer.has("ln_mlp"):
            inner = norm(graph, layer, x, "ln_mlp", op)
        if picks:
            inner = graph.get_rows(inner, batch.out_rows)
    words = {"mixer": out, "residual": residual, "ffn": _feed_forward(graph, batch, layer, inner)}
    first, second, third = (words[word] for word in batch.traits.parallel)
    return graph.like("add", graph.like("add", first, second), third)


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


FIRST_NORMS = "attn_norm", "mixer_norm", "ln_attn"
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
    if layer.has("latent_down"):
        scores = graph.linear(layer.rows("router"), x, "router")
        inner = graph.linear(layer.rows("latent_down"), x, "latent_down")
        out = feed_forward.experts(graph, batch, layer, inner, scores=scores)
        if layer.has("latent_norm"):
            out = norm(graph, layer, out, "latent_norm")
        out = graph.linear(layer.rows("latent_up"), out, "latent_up")
    else:
        out = feed_forward.experts(graph, batch, layer, x)
    if layer.has("shared_down"):
        return graph.like("add", out, feed_forward.shared(graph, batch, layer, x))
    return out
