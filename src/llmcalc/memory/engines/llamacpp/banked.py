"""Layers that read a weighted sum over earlier states (Kimi K3): each so manieth layer banks its input."""

from __future__ import annotations

from collections.abc import Callable

from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer, norm

Part = Callable[[Node], Node]


class Bank:
    """The states banked so far, beside one another."""

    __slots__ = ("every", "stack")

    def __init__(self, every: int) -> None:
        self.every = every
        self.stack: Node | None = None

    def push(self, graph: Graph, x: Node) -> None:
        """Bank a state."""
        state = graph.reshape(x, x.ne[0], 1, x.ne[1])
        if self.stack is None:
            self.stack = state
        else:
            ne = x.ne[0], self.stack.ne[1] + 1, x.ne[1]
            self.stack = graph.result("concat", "f32", ne, self.stack, state)

    def mix(self, graph: Graph, x: Node, role: str) -> Node:
        """The state and the banked ones, weighed by their scores."""
        stack = self.stack
        if stack is None:
            return x
        hidden, number, tokens = stack.ne[:3]
        scores = graph.like("mul", graph.like("rms_norm", stack), weight=role)
        scores = graph.result("sum_rows", "f32", (1, number, tokens), scores)
        scores = graph.reshape(scores, number, tokens)
        own = graph.like("mul", graph.like("rms_norm", x), weight=role)
        own = graph.result("sum_rows", "f32", (1, tokens), own)
        both = graph.result("concat", "f32", (number + 1, tokens), scores, own)
        shares = graph.like("soft_max", both)
        step = shares.strides[:2]
        old = graph.cont(graph.view(shares, (number, tokens), step))
        new = graph.cont(graph.view(shares, (1, tokens), step))
        out = graph.result("weigh", "f32", (hidden, tokens), stack, old)
        return graph.like("add", out, graph.like("mul", x, new))


def run(graph: Graph, bank: Bank, layer: Layer, x: Node, mixer: Part, feed_forward: Part) -> Node:
    """One layer; where its input is banked, the residual starts anew."""
    inner = bank.mix(graph, x, "attn_residual")
    banks = graph.layer % bank.every == 0
    if banks:
        bank.push(graph, x)
    out = mixer(graph.expand(norm(graph, layer, inner, "attn_norm")))
    x = out if banks else graph.like("add", x, out)
    inner = bank.mix(graph, x, "ffn_residual")
    return graph.like("add", x, feed_forward(norm(graph, layer, inner, "ffn_norm")))
