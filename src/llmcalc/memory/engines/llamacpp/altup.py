"""Several residual streams side by side, one of them computed (AltUp), as llama.cpp writes Gemma 3n."""

from __future__ import annotations

from llmcalc.memory.engines.llamacpp import attention, per_layer
from llmcalc.memory.engines.llamacpp.batch import Batch
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, Outside, norm

SPARSE = 10
"""First layers whose gates keep only what stands out. [layers]"""


def spread(graph: Graph, outside: Outside, x: Node) -> Node:
    """The embedding and its projections to the other streams, all of one magnitude."""
    others = sum(role.startswith("altup_in_") for role in outside.shapes)
    target = _magnitude(graph, x)
    repeated = graph.result("repeat", "f32", (x.ne[0], x.ne[1], others), x)
    added = _brought_to(graph, graph.linear(x.ne[0], repeated, "altup_in_0"), target)
    return graph.result("concat", "f32", (x.ne[0], x.ne[1], others + 1), x, added)


def joined(graph: Graph, x: Node) -> Node:
    """The mean of all streams, the others projected back first."""
    target = _magnitude(graph, per_layer.part(graph, x))
    others = _others(graph, x)
    back = _brought_to(graph, graph.linear(x.ne[0], others, "altup_out_0"), target)
    out = per_layer.part(graph, x)
    for _ in range(others.ne[2]):
        out = graph.like("add", out, per_layer.part(graph, back))
    return graph.like("scale", out)


def run(graph: Graph, batch: Batch, layer: Layer, x: Node, extra: Node) -> Node:
    """One layer: all streams are predicted, one is computed, all are corrected."""
    predictions = _predicted(graph, layer, x)
    active = per_layer.part(graph, predictions)
    inner = norm(graph, layer, active, "attn_norm")
    low = graph.linear(layer.rows("laurel_left"), inner, "laurel_left")
    low = graph.linear(layer.rows("laurel_right"), low, "laurel_right")
    low = graph.like("add", norm(graph, layer, low, "laurel_norm"), inner)
    out = norm(graph, layer, attention.grouped(graph, batch, layer, inner), "post_attn_norm")
    out = graph.like("add", out, active)
    residual = graph.like("scale", graph.like("add", out, low))
    out = _feed_forward(graph, layer, norm(graph, layer, residual, "ffn_norm"))
    out = graph.like("add", norm(graph, layer, out, "post_ffn_norm"), residual)
    corrected = _corrected(graph, layer, predictions, out)
    first = graph.like("mul", per_layer.part(graph, corrected), weight="altup_scale")
    first = per_layer.mixed_in(graph, layer, first, extra)
    untouched = per_layer.part(graph, corrected)
    return graph.result(
        "concat", "f32", corrected.ne, untouched, graph.like("add", _others(graph, corrected), first)
    )


def _others(graph: Graph, x: Node) -> Node:
    """All streams but the first."""
    return graph.view(x, (x.ne[0], x.ne[1], x.ne[2] - 1), x.strides[:3])


def _magnitude(graph: Graph, x: Node) -> Node:
    total = graph.result("sum_rows", "f32", (1, *x.ne[1:]), graph.like("sqr", x))
    return graph.like("sqrt", total)


def _brought_to(graph: Graph, x: Node, target: Node) -> Node:
    own = _magnitude(graph, x)
    return graph.like("div", graph.like("mul", x, target), own)


def _modalities(graph: Graph, layer: Layer, x: Node) -> Node:
    """How much each stream counts, seen from the active one."""
    routed = graph.like("scale", norm(graph, layer, x, "altup_router_norm"))
    return graph.like("unary", graph.linear(layer.rows("altup_router"), routed, "altup_router"))


def _predicted(graph: Graph, layer: Layer, x: Node) -> Node:
    streams, tokens = x.ne[2], x.ne[1]
    modalities = _modalities(graph, layer, per_layer.part(graph, x))
    mixing = graph.linear(streams * streams, modalities, "altup_predict")
    mixing = graph.reshape(mixing, streams, streams, tokens)
    made = graph.mul_mat(graph.cont(graph.permute(x, 1, 2, 0, 3)), mixing)
    return graph.like("add", graph.cont(graph.permute(made, 0, 2, 1, 3)), x)


def _corrected(graph: Graph, layer: Layer, predictions: Node, out: Node) -> Node:
    """Every stream moved by what the active one turned out to be."""
    hidden, tokens, streams = predictions.ne[:3]
    modalities = _modalities(graph, layer, out)
    news = graph.like("sub", out, per_layer.part(graph, predictions))
    shares = graph.like("scale", graph.linear(streams, modalities, "altup_correct"))
    shares = graph.cont(graph.transpose(shares), 1, tokens, streams)
    news = graph.result("repeat", "f32", (hidden, tokens, streams), news)
    return graph.like("add", graph.like("mul", news, shares), predictions)


def _feed_forward(graph: Graph, layer: Layer, x: Node) -> Node:
    up = graph.linear(layer.rows("up"), x, "up")
    gate = graph.linear(layer.rows("gate"), x, "gate")
    if graph.layer < SPARSE:
        gate = _outstanding(graph, gate)
    middle = graph.like("mul", up, graph.like("unary", gate))
    return graph.linear(layer.rows("down"), middle, "down")


def _outstanding(graph: Graph, x: Node) -> Node:
    """What exceeds the mean by so many standard deviations."""
    tokens = x.ne[1]
    mean = graph.result("mean", "f32", (1, tokens), x)
    squares = graph.like("sqr", graph.like("sub", x, mean))
    deviation = graph.like("sqrt", graph.like("scale", graph.result("sum_rows", "f32", (1, tokens), squares)))
    cutoff = graph.like("add", mean, graph.like("scale", deviation))
    return graph.like("unary", graph.like("sub", x, cutoff))
