"""Communication of tensor ranks on the tape: what is gathered, what is summed and scattered again."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, ceil_div
from llmcalc.memory.training.tape import Node, Tape, Value

COLUMN = frozenset({
    "query", "key", "value", "qkv", "query_b", "kv_b", "gate", "up", "gate_up", "shared_gate", "shared_up",
    "shared_gate_up", "unembedding", "embedding", "classifier",
})  # fmt: skip
"""Roles of matrices whose outputs are shared: each rank reads all of its input and makes a part."""

ROW = frozenset({"output", "down", "shared_down"})
"""Roles of matrices whose inputs are shared: the parts that ranks make are summed."""


def gathered(t: Tape, x: Value, ranks: int) -> Value:
    """All ranks' tokens side by side; the gradient is summed and each rank gets its own tokens' part."""
    node = t.node(x)
    own = x.numel
    return t.link(t.new(own * ranks, x.element), node, lambda g, node: [t.new(own, g.element)])


def scattered(t: Tape, y: Value, ranks: int) -> Value:
    """A sum over ranks of which each keeps its own tokens; the gradient is gathered."""
    node = t.node(y)
    whole = y.numel
    made = t.product(ceil_div(whole, ranks), y.element, costly=True)
    return t.link(made, node, lambda g, node: [t.new(whole, g.element)])


def regathered(
    t: Tape, x: Value, sinks: list[Any], outs: list[Quantity], ranks: int, reserved: bool = False
) -> Value:
    """A matrix over gathered tokens that saves its own rank's alone, and gathers them again in backward.

    `reserved`: what is gathered lies in memory that is there all the time. A gradient of a weight is added to
    where it is kept by the product itself, unless its sink has a size.
    """
    node = t.node(x, *sinks)
    if node is not None:
        t.save(node, *([x] if any(node.needs(i + 1) for i in range(len(sinks))) else []), None)
    own, element = x.numel, x.element
    gathers = ranks > 1 and not reserved
    whole = t.new(own * ranks, element) if gathers else None
    made = t.new(sum(outs[1:], outs[0]), element)
    del whole
    sizes = [sink.numel if sink is not None else 0 for sink in sinks]

    def back(g: Value, node: Node) -> list[Any]:
        grads: list[Any] = [None]
        trains = any(node.needs(i + 1) for i in range(len(sizes)))
        whole = t.new(own * ranks, element) if gathers and trains else None
        if node.needs(0):
            wide = t.new(own * ranks, element) if ranks > 1 else None
            grads[0] = t.new(own, element)
            del wide
        grads += [t.new(n, element) if node.needs(i + 1) else None for i, n in enumerate(sizes)]
        del whole
        return grads

    return t.link(made, node, back)
