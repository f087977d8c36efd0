"""Feed-forward layers as llama.cpp writes them: dense, experts, and what is shared beside them."""

from __future__ import annotations

from math import prod

from llmcalc.memory.engines.llamacpp.attention import project
from llmcalc.memory.engines.llamacpp.batch import Batch
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, bias_of, norm
from llmcalc.memory.engines.llamacpp.traits import Traits


def dense(graph: Graph, batch: Batch, layer: Layer, x: Node, lead: str = "") -> Node:
    """Up, then gate, the activation, down. A fused or a missing gate are activated alone."""
    if layer.has(f"{lead}gate_up"):
        both = project(graph, layer, x, f"{lead}gate_up")
        middle = graph.result("glu", "f32", (both.ne[0] // 2, *both.ne[1:]), both)
    elif layer.has(f"{lead}gate"):
        up = project(graph, layer, x, f"{lead}up")
        gate = project(graph, layer, x, f"{lead}gate")
        middle = _gated(graph, batch, gate, up)
    else:
        middle = _activated(graph, batch, project(graph, layer, x, f"{lead}up"))
    return project(graph, layer, middle, f"{lead}down")


def _gated(graph: Graph, batch: Batch, gate: Node, up: Node) -> Node:
    """The activation of gate and up, in one operation unless both are bounded."""
    if not batch.traits.bounded:
        return graph.like("glu", gate, up)
    bounded = graph.like("mul", _bounded(graph, gate), graph.like("unary", gate))
    return graph.like("mul", bounded, _bounded(graph, up))


def _bounded(graph: Graph, x: Node) -> Node:
    return graph.like("scale", graph.like("unary", graph.like("scale", x)))


def _activated(graph: Graph, batch: Batch, x: Node) -> Node:
    """An activation without a gate."""
    made = graph.like("unary", x)
    return graph.like("sqr", made) if batch.traits.squares else made


def experts(
    graph: Graph, batch: Batch, layer: Layer, x: Node, lead: str = "expert_", scores: Node | None = None
) -> Node:
    """Routed experts: scores, choice, their feed-forwards, and the weighted sum."""
    traits = batch.traits
    number, used = layer.rows("router"), layer.used
    hidden, tokens = x.ne[0], x.ne[1]
    if scores is None:
        scores = project(graph, layer, x, "router")
    probabilities = scores if traits.late_softmax else graph.like("soft_max", scores)
    chosen_by = probabilities
    if layer.has("router_correction"):
        chosen_by = graph.like("add", probabilities, weight="router_correction")
    if traits.weigh_first:
        chosen_by = scores
    if traits.groups > 1:
        chosen_by = _in_groups(graph, chosen_by, number, traits.groups)
    ranked = graph.result("argsort", "i32", (number, tokens), chosen_by)
    chosen = graph.view(ranked, (used, tokens), (4, ranked.strides[1]))
    weights = _weights(graph, traits, probabilities, chosen)
    graph.expand(weights)
    inner = graph.reshape(x, hidden, 1, tokens)
    if traits.weigh_first:
        inner = graph.like("mul", graph.result("repeat", "f32", (hidden, used, tokens), inner), weights)
    out = _chosen(graph, batch, layer, inner, chosen, lead)
    if not traits.weigh_first:
        out = graph.like("mul", out, weights)
    graph.expand(out)
    views = [graph.expand(graph.view(out, (out.ne[0], tokens), (4, out.strides[2]))) for _ in range(used)]
    total = views[0]
    for view in views[1:]:
        total = graph.expand(graph.like("add", total, view))
    return graph.cont(total) if used == 1 else total


def _weights(graph: Graph, traits: Traits, probabilities: Node, chosen: Node) -> Node:
    """How much each of the chosen counts."""
    number, used, tokens = probabilities.ne[0], chosen.ne[0], chosen.ne[1]
    weights = graph.get_rows(graph.reshape(probabilities, 1, number, tokens), chosen)
    if traits.late_softmax:
        weights = graph.like("soft_max", graph.reshape(weights, used, tokens))
        weights = graph.reshape(weights, 1, used, tokens)
    if traits.normed:
        weights = graph.reshape(weights, used, tokens)
        total = graph.like("clamp", graph.result("sum_rows", "f32", (1, tokens), weights))
        weights = graph.reshape(graph.like("div", weights, total), 1, used, tokens)
    return graph.like("scale", weights) if traits.scales_weights else weights


def _in_groups(graph: Graph, scores: Node, number: int, groups: int) -> Node:
    """Scores of the experts of the best groups, the others masked out."""
    tokens, each = scores.ne[1], number // groups
    grouped = graph.reshape(scores, each, groups, tokens)
    ranked = graph.result("argsort", "i32", (each, groups, tokens), grouped)
    best = graph.view(ranked, (2, groups, tokens), (4, ranked.strides[1], ranked.strides[2]))
    tops = graph.result(
        "get_rows", "f32", (1, 2, groups, tokens), graph.reshape(grouped, 1, each, groups, tokens), best
    )
    sums = graph.result("sum_rows", "f32", (1, groups, tokens), graph.reshape(tops, 2, groups, tokens))
    order = graph.result("argsort", "i32", (groups, tokens), graph.reshape(sums, groups, tokens))
    half = max(groups // 2, 1)
    kept = graph.view(order, (half, tokens), (4, order.strides[1]))
    picked = graph.result("get_rows", "f32", (each, half, tokens), grouped, kept)
    masked = graph.like("fill", grouped)
    placed = graph.write("set_rows", masked, picked, kept)
    return graph.reshape(placed, number, tokens)


def _chosen(graph: Graph, batch: Batch, layer: Layer, x: Node, chosen: Node, lead: str) -> Node:
    """Up, gate, activation and down of the chosen experts, and what each of them is scaled by."""
    used, tokens = layer.used, x.ne[2]

    def product(role: str, rows: int, source: Node) -> Node:
        made = graph.result("mul_mat_id", "f32", (rows, used, tokens), source, chosen, weight=role)
        made = graph.adapted(made, role, source, chosen, op="mul_mat_id")
        return graph.like("add_id", made, chosen, weight=bias_of(role)) if layer.has_bias(role) else made

    hidden = x.ne[0]
    width = prod(layer.shapes[f"{lead}down"]) // (layer.rows("router") * hidden)
    if layer.has(f"{lead}gate_up"):
        both = product(f"{lead}gate_up", 2 * width, x)
        halves = [
            graph.view(both, (width, used, tokens), (4, both.strides[1], both.strides[2])) for _ in (0, 1)
        ]
        middle = graph.like("glu", *halves)
    else:
        up = product(f"{lead}up", width, x)
        if layer.has(f"{lead}gate"):
            middle = _gated(graph, batch, product(f"{lead}gate", width, x), up)
        else:
            middle = _activated(graph, batch, up)
    out = product(f"{lead}down", hidden, middle)
    if layer.has("router_output_scale"):
        number = layer.rows("router")
        scales = graph.reshape(graph.cache("f32", 4, number), 1, number, 1)
        scales = graph.result("repeat", "f32", (1, number, tokens), scales)
        out = graph.like("mul", out, graph.get_rows(scales, chosen))
    return out


def shared(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """The shared expert, and its gate where it has one."""
    made = dense(graph, batch, layer, x, "shared_")
    if layer.has("shared_router"):
        scores = graph.linear(1, x, "shared_router")
        gate = graph.like("unary", scores)
        if batch.traits.divides_gate:
            gate = graph.like("div", gate, scores)
        made = graph.like("mul", made, gate)
    return made


def beside(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """A dense feed-forward and experts side by side, each with norms of its own (Gemma 4)."""
    out = dense(graph, batch, layer, norm(graph, layer, x, "ffn_norm"))
    out = norm(graph, layer, out, "dense_norm")
    inner = norm(graph, layer, x, "before_experts_norm")
    routed = graph.like("mul", graph.like("scale", graph.like("rms_norm", x)), weight="router_scale")
    scores = graph.linear(layer.rows("router"), routed, "router")
    chosen = experts(graph, batch, layer, inner, scores=scores)
    return graph.like("add", out, norm(graph, layer, chosen, "post_experts_norm"))
