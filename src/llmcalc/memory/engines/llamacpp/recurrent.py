"""Recurrent layers as llama.cpp writes them: Mamba, Mamba-2, gated delta nets."""

from __future__ import annotations

from llmcalc.memory.engines.llamacpp.batch import Batch
from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, bias_of, norm, state_elements


def states(graph: Graph, batch: Batch, home: Node) -> Node:
    """The states of this batch's sequences, gathered from their home at once."""
    elements = home.ne[0]
    store = graph.reshape(home, elements, batch.seqs)
    _clear(graph, store)
    found = graph.expand(graph.result("get_rows", "f32", (elements, batch.seqs), store, batch.state_rows))
    _keep_others(graph, batch, store)
    return found


def _clear(graph: Graph, store: Node) -> None:
    """A new sequence's state is set to zero."""
    graph.expand(graph.write("scale", graph.view(store, (0,))))


def _keep_others(graph: Graph, batch: Batch, store: Node) -> None:
    """States that others hold are moved along; there are none in the largest batch."""
    others = graph.result("get_rows", "f32", (store.ne[0], 0), store, batch.other_rows)
    graph.expand(graph.write("cpy", graph.view(store, (store.ne[0], 0)), others))


def save(graph: Graph, home: Node, part: Node) -> None:
    """Copy a part back home."""
    graph.expand(graph.write("cpy", graph.view(home, part.ne), part))


def convolved(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """A causal convolution over what is remembered and what is new; columns go back to the store."""
    cache = layer.states["conv"]
    columns = cache.positions or 1
    channels = state_elements(cache) // columns
    home = graph.cache("f32", 4, columns * channels, batch.seqs)
    old = graph.reshape(states(graph, batch, home), columns, channels, batch.seqs)
    joined = graph.result(
        "concat", "f32", (columns + batch.seq_tokens, channels, batch.seqs), old, graph.transpose(x)
    )
    last = graph.view(joined, (columns, channels, batch.seqs), joined.strides[:3])
    save(graph, home, last)
    return graph.result("ssm_conv", "f32", (channels, batch.seq_tokens, batch.seqs), joined, weight="conv")


def scanned(graph: Graph, batch: Batch, outputs: int, home: Node, *parts: Node) -> Node:
    """A selective scan: outputs and final states in one tensor; it reads the states where they are."""
    kept = home.ne[0]
    store = graph.reshape(home, kept, batch.seqs)
    _clear(graph, store)
    heads = graph.reshape(store, kept, batch.seqs)
    ran = graph.result(
        "ssm_scan", "f32", (outputs + kept * batch.seqs,), heads, *parts, batch.state_rows, weight="a_log"
    )
    graph.expand(ran)
    _keep_others(graph, batch, store)
    return ran


def mamba2(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """Mamba-2: one projection for gate, input, B, C and time step; one scan."""
    tokens, seqs = batch.seq_tokens, batch.seqs
    inner = layer.shapes["ssm_out"][-1]
    heads = layer.rows("dt_bias")
    channels = state_elements(layer.states["conv"]) // (layer.states["conv"].positions or 1)
    width = inner // heads
    kept = state_elements(layer.states["recurrent"])
    shared = (channels - inner) // 2
    width_state = kept // inner
    groups = shared // width_state
    # llama.cpp gathers the columns before it projects.
    both = graph.linear(layer.rows("ssm_in"), x, "ssm_in")
    both = graph.reshape(both, both.ne[0], tokens, seqs)
    step = both.strides
    z = graph.view(both, (width, heads, tokens, seqs), (4, 4 * width, step[1], step[2]))
    mixed = graph.view(both, (channels, tokens, seqs), (4, step[1], step[2]))
    dt = graph.view(both, (heads, tokens, seqs), (4, step[1], step[2]))
    made = convolved(graph, batch, layer, mixed)
    if layer.has_bias("conv"):
        made = graph.like("add", made, weight=bias_of("conv"))
    made = graph.like("unary", made)
    step = made.strides
    value = graph.view(made, (width, heads, tokens, seqs), (4, 4 * width, step[1], step[2]))
    b = graph.view(made, (width_state, groups, tokens, seqs), (4, 4 * width_state, step[1], step[2]))
    c = graph.view(made, (width_state, groups, tokens, seqs), (4, 4 * width_state, step[1], step[2]))
    dt = graph.like("add", graph.cont(dt), weight="dt_bias")
    home = graph.cache("f32", 4, kept, seqs)
    scan = scanned(graph, batch, inner * tokens * seqs, home, value, dt, b, c)
    save(graph, home, graph.view(scan, (kept, seqs)))
    y = graph.view(scan, (width, heads, tokens, seqs))
    y = graph.like("add", y, graph.like("mul", value, weight="skip"))
    y = graph.like("glu", graph.cont(z), y)
    if layer.has("ssm_norm"):
        y = norm(graph, layer, graph.reshape(y, inner // groups, groups, tokens, seqs), "ssm_norm")
    return graph.linear(layer.rows("ssm_out"), graph.reshape(y, inner, tokens * seqs), "ssm_out")


def mamba(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """Mamba-1: the scan has a decay for each channel and state."""
    tokens, seqs = batch.seq_tokens, batch.seqs
    inner = layer.shapes["ssm_out"][-1]
    kept = state_elements(layer.states["recurrent"])
    width_state = kept // inner
    rank = layer.shapes["ssm_dt"][-1]
    x = graph.reshape(x, x.ne[0], tokens, seqs)
    both = graph.linear(layer.rows("ssm_in"), x, "ssm_in")
    value = graph.view(both, (inner, tokens, seqs), both.strides[:3])
    z = graph.view(both, (inner, tokens, seqs), both.strides[:3])
    made = convolved(graph, batch, layer, value)
    made = graph.like("unary", graph.like("add", made, weight=bias_of("conv")))
    mixed = graph.linear(layer.rows("ssm_x"), made, "ssm_x")
    step = mixed.strides
    dt = graph.view(mixed, (rank, tokens, seqs), step[:3])
    b = graph.view(mixed, (width_state, 1, tokens, seqs), (4, 4 * width_state, step[1], step[2]))
    c = graph.view(mixed, (width_state, 1, tokens, seqs), (4, 4 * width_state, step[1], step[2]))
    if layer.has("dt_norm"):
        dt, b, c = (
            graph.like("mul", graph.like("rms_norm", part), weight=role)
            for part, role in ((dt, "dt_norm"), (b, "b_norm"), (c, "c_norm"))
        )
    elif batch.traits.norms_scan:
        dt, b, c = (graph.like("rms_norm", part) for part in (dt, b, c))
    else:
        dt = graph.cont(dt)
    dt = graph.like("add", graph.linear(inner, dt, "ssm_dt"), weight=bias_of("ssm_dt"))
    heads = graph.reshape(made, 1, inner, tokens, seqs)
    home = graph.cache("f32", 4, kept, seqs)
    scan = scanned(graph, batch, inner * tokens * seqs, home, heads, dt, b, c)
    save(graph, home, graph.view(scan, (kept * seqs,)))
    y = graph.view(scan, (inner, tokens, seqs))
    y = graph.like("add", y, graph.like("mul", made, weight="skip"))
    y = graph.like("glu", graph.cont(z), y)
    out = graph.linear(layer.rows("ssm_out"), y, "ssm_out")
    return graph.reshape(out, out.ne[0], tokens * seqs)


def delta_net(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """Gated delta net: a convolution, then a fused kernel that carries the state."""
    tokens, seqs = batch.seq_tokens, batch.seqs
    heads = layer.rows("dt_bias")
    kept = state_elements(layer.states["recurrent"])
    inner = layer.shapes["delta_out"][-1]
    width = inner // heads
    channels = layer.rows("delta_qkv")
    key_heads = (channels - inner) // (2 * width)
    mixed = graph.reshape(graph.linear(channels, x, "delta_qkv"), channels, tokens, seqs)
    z = graph.linear(layer.rows("delta_gate"), x, "delta_gate")
    beta, gate = _beta_and_gate(graph, batch, layer, x)
    made = convolved(graph, batch, layer, mixed)
    home = graph.cache("f32", 4, kept, seqs)
    state = graph.reshape(states(graph, batch, home), width, width, heads, seqs)
    made = graph.like("unary", made)
    step = made.strides
    query, key = (
        graph.view(made, (width, key_heads, tokens, seqs), (4, 4 * width, step[1], step[2])) for _ in (0, 1)
    )
    value = graph.view(made, (width, heads, tokens, seqs), (4, 4 * width, step[1], step[2]))
    query, key = unit(graph, query), unit(graph, key)
    if batch.traits.repeats and key_heads != heads:
        query, key = (_repeated(graph, part, heads) for part in (query, key))
    ran = _ran(graph, batch, query, key, value, gate, beta, state)
    save(graph, home, graph.view(ran, state.ne))
    out = graph.view(ran, value.ne)
    normed = norm(graph, layer, out, "delta_norm")
    gated = graph.like("unary", graph.reshape(z, width, heads, tokens, seqs))
    out = graph.reshape(graph.like("mul", normed, gated), inner, tokens, seqs)
    out = graph.linear(layer.rows("delta_out"), out, "delta_out")
    return graph.reshape(out, out.ne[0], tokens * seqs)


def unit(graph: Graph, x: Node) -> Node:
    """A vector brought to length one: a root-mean-square norm, scaled."""
    return graph.like("scale", graph.like("rms_norm", x))


def _repeated(graph: Graph, part: Node, heads: int) -> Node:
    width, own, tokens, seqs = part.ne
    apart = graph.reshape(part, width, 1, own, tokens * seqs)
    many = graph.result("repeat", "f32", (width, heads // own, own, tokens * seqs), apart)
    return graph.reshape(many, width, heads, tokens, seqs)


def _ran(graph: Graph, batch: Batch, *parts: Node) -> Node:
    """The fused kernel of a delta net: its results, the new states and their snapshots in one tensor."""
    width, heads, tokens, seqs = parts[2].ne
    kept = width * (1 + batch.settings.snapshots)
    return graph.result("delta_net", "f32", (width * heads, (tokens + kept) * seqs), *parts)


def _beta_and_gate(graph: Graph, batch: Batch, layer: Layer, x: Node) -> tuple[Node, Node]:
    """How strongly to write and how fast to forget, by head: of one matrix or of two."""
    tokens, seqs, heads = batch.seq_tokens, batch.seqs, layer.rows("dt_bias")
    if layer.has("delta_ba"):
        both = graph.reshape(graph.linear(2 * heads, x, "delta_ba"), 2 * heads, tokens, seqs)
        halves = [graph.view(both, (heads, tokens, seqs), both.strides[:3]) for _ in (0, 1)]
        beta = graph.like("unary", graph.cont(halves[0]))
        beta = graph.reshape(beta, 1, heads, tokens, seqs)
        alpha = graph.cont(halves[1])
    else:
        beta = graph.reshape(graph.linear(heads, x, "delta_b"), 1, heads, tokens, seqs)
        beta = graph.like("unary", beta)
        alpha = graph.reshape(graph.linear(heads, x, "delta_a"), heads, tokens, seqs)
    gate = graph.like("unary", graph.like("add", alpha, weight="dt_bias"))
    gate = graph.like("mul", gate, weight="a_log")
    return beta, graph.reshape(gate, 1, heads, tokens, seqs)


def short_convolution(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """A gated convolution over a few positions (LFM2)."""
    tokens, seqs, width = batch.seq_tokens, batch.seqs, layer.shapes["short_out"][-1]
    x = graph.reshape(x, x.ne[0], tokens, seqs)
    parts = graph.linear(layer.rows("short_in"), x, "short_in")
    before, after, value = (graph.view(parts, (width, tokens, seqs), parts.strides[:3]) for _ in range(3))
    made = convolved(graph, batch, layer, graph.like("mul", before, value))
    out = graph.linear(layer.rows("short_out"), graph.like("mul", after, made), "short_out")
    return graph.reshape(out, out.ne[0], tokens * seqs)


def kimi_delta(graph: Graph, batch: Batch, layer: Layer, x: Node) -> Node:
    """Kimi's delta net: three convolutions over one store, a decay for each channel."""
    tokens, seqs, heads = batch.seq_tokens, batch.seqs, layer.rows("delta_b")
    inner = layer.shapes["delta_out"][-1]
    width, every = inner // heads, tokens * seqs
    cache = layer.states["conv"]
    home = graph.cache("f32", 4, state_elements(cache), seqs)
    old = states(graph, batch, home)
    query, key, value = (
        _own_convolution(graph, batch, layer, home, old, x, word) for word in ("query", "key", "value")
    )
    query, key, value = (graph.reshape(part, width, heads, tokens, seqs) for part in (query, key, value))
    forget = graph.linear(layer.rows("delta_forget_a"), x, "delta_forget_a")
    forget = graph.like("add", graph.linear(inner, forget, "delta_forget_b"), weight="dt_bias")
    decay = graph.reshape(graph.cache("f32", 4, heads), 1, heads, 1)
    if batch.traits.bounds_decay:
        forget = graph.like("mul", graph.reshape(forget, width, heads, every), decay)
        forget = graph.like("scale", graph.like("unary", graph.like("scale", forget)))
    else:
        forget = graph.reshape(graph.like("unary", forget), width, heads, every)
        forget = graph.like("mul", forget, decay)
    forget = graph.reshape(forget, width, heads, tokens, seqs)
    beta = graph.reshape(graph.linear(heads, x, "delta_b"), 1, heads, tokens, seqs)
    beta = graph.like("unary", beta)
    again = graph.reshape(graph.reshape(x, x.ne[0], tokens, seqs), x.ne[0], every)
    home = graph.cache("f32", 4, state_elements(layer.states["recurrent"]), seqs)
    state = graph.reshape(states(graph, batch, home), width, width, heads, seqs)
    ran = _ran(graph, batch, unit(graph, query), unit(graph, key), value, forget, beta, state)
    out = graph.cont(graph.view(ran, value.ne))
    save(graph, home, graph.view(ran, state.ne))
    if layer.has("delta_gate"):
        gate = graph.linear(inner, again, "delta_gate")
    else:
        gate = graph.linear(layer.rows("delta_gate_a"), again, "delta_gate_a")
        gate = graph.linear(inner, gate, "delta_gate_b")
    gate = graph.reshape(gate, width, heads, every)
    out = norm(graph, layer, graph.reshape(out, width, heads, every), "delta_norm")
    out = graph.cont(graph.like("mul", out, graph.like("unary", gate)), inner, every)
    return graph.linear(layer.rows("delta_out"), out, "delta_out")


def _own_convolution(
    graph: Graph, batch: Batch, layer: Layer, home: Node, old: Node, x: Node, word: str
) -> Node:
    """The convolution of a third of what is remembered."""
    tokens, seqs, width = batch.seq_tokens, batch.seqs, layer.rows(f"delta_{word}")
    columns = layer.states["conv"].positions or 1
    old = graph.view(old, (columns, width, seqs), (4, 4 * columns, old.strides[1]))
    new = graph.reshape(graph.linear(width, x, f"delta_{word}"), width, tokens, seqs)
    joined = graph.result("concat", "f32", (columns + tokens, width, seqs), old, graph.transpose(new))
    save(graph, home, graph.view(joined, (columns, width, seqs), joined.strides[:3]))
    kernel = graph.reshape(graph.cache("f32", 4, columns + 1, 1, width), columns + 1, width)
    made = graph.result("ssm_conv", "f32", (width, tokens, seqs), joined, kernel)
    return graph.like("unary", graph.reshape(made, width, tokens * seqs))
