"""Implementations of the same layers, and the fused operations that they bring."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity
from llmcalc.memory.training import ops
from llmcalc.memory.training.tape import WEIGHT, Node, Sink, Tape, Value

PROCESSORS = 132
"""Multiprocessors of a large GPU; a fused norm sums its weight's gradient once for each. [-]"""


class Recipe:
    """What an implementation does otherwise than transformers.

    Attributes
    ----------
    norm : str
        ``family``: as the family's class in transformers; ``in-place``, ``fused``: one kernel that saves its
        input, with or without writing the gradient over the one that came; ``narrow``: litgpt's.
    rotation : str
        ``family``; ``in-place``: a kernel that writes over queries and keys; ``fused``: one that writes anew;
        ``paired``, ``complex``: neighbours in fp32, stacked or as complex numbers; ``joined``: what rotates
        and what does not are put side by side, though all of it rotates.
    repeats : bool
        Keys and values are always copied for every query head.
    joint : bool
        Query, key and value are one product.
    buffered : bool
        Tables of rotations are buffers of the model, no activations.
    regathers : bool
        Under sequence parallelism a matrix saves its own rank's tokens and gathers them again in backward.
    fused_gradients : bool
        Gradients of matrices are added by the product itself to where they are kept.
    contiguous : bool
        Keys, values and queries that share memory are copied apart for the kernel.
    gate : str
        ``open``: activation and product are two operations; ``in-place``, ``fused``: one kernel.

    Notes
    -----
    Read from Liger-Kernel (August 2026), torchtune (April 2026), litgpt (June 2024). Megatron-LM's follows
    its published estimator: it is derived, not measured.
    """

    __slots__ = (
        "buffered", "contiguous", "fused_gradients", "gate", "joint", "norm", "regathers", "repeats",
        "rotation",
    )  # fmt: skip

    def __init__(
        self,
        norm: str = "family",
        rotation: str = "family",
        gate: str = "open",
        repeats: bool = False,
        joint: bool = False,
        buffered: bool = False,
        regathers: bool = False,
        fused_gradients: bool = False,
        contiguous: bool = False,
    ) -> None:
        self.norm, self.rotation, self.gate = norm, rotation, gate
        self.repeats, self.joint, self.buffered = repeats, joint, buffered
        self.regathers, self.fused_gradients, self.contiguous = regathers, fused_gradients, contiguous


RECIPES = {
    "hf": Recipe(),
    "liger": Recipe(norm="in-place", rotation="in-place", gate="in-place"),
    "torchtune": Recipe(norm="family", rotation="paired", repeats=True, buffered=True),
    "torchtitan": Recipe(norm="family", rotation="complex", repeats=True, buffered=True),
    "litgpt": Recipe(norm="narrow", rotation="joined", repeats=True, joint=True, buffered=True),
    "megatron": Recipe(
        norm="fused",
        rotation="fused",
        gate="fused",
        joint=True,
        buffered=True,
        regathers=True,
        fused_gradients=True,
        contiguous=True,
    ),
}


def fused_norm(
    t: Tape, x: Value, weight: Sink | None, bias: Sink | None, vectors: Quantity, over: bool
) -> Value:
    """A norm in one kernel: its input and the scale of each vector are saved.

    `over` writes the gradient of the input over the one that came.
    """
    node = t.node(x, weight, bias)
    scale = t.new(vectors, 4)
    out = t.like(x)
    t.save(node, x, WEIGHT, scale)
    sizes = [sink.numel if sink is not None else 0 for sink in (weight, bias)]

    def back(g: Value, node: Node) -> list[Any]:
        sums = t.new(PROCESSORS * sizes[0], 4)
        made: list[Any] = [(g if over else t.like(g)) if node.needs(0) else None]
        made += [t.new(size, g.element) if node.needs(i + 1) else None for i, size in enumerate(sizes)]
        del sums
        return made

    return t.link(out, node, back)


def gated(t: Tape, gate: Value, up: Value, over: bool) -> Value:
    """``act(gate) * up`` in one kernel, which saves both; `over` writes the gradients over them."""
    node = t.node(gate, up)
    t.save(node, gate, up)
    sizes, element = (gate.numel, up.numel), gate.element

    def back(g: Value, node: Node) -> list[Any]:
        made: list[Any] = []
        for i, numel in enumerate(sizes):
            kept = node.kept[i]
            if not node.needs(i):
                made.append(None)
            elif over and kept is not None:
                made.append(Value(kept, numel, element))
            else:
                made.append(t.new(numel, element))
        return made

    return t.link(t.like(gate), node, back)


def turned_in_place(t: Tape, x: Value, cos: Value, sin: Value) -> Value:
    """Queries or keys rotated where they lie, and their gradients likewise."""
    node = t.node(x)
    t.save(node, cos, sin)
    return t.link(Value(x.storage, x.numel, x.element), node, lambda g, node: [g])


def turned_at_once(t: Tape, x: Value) -> Value:
    """One kernel that writes rotated queries or keys anew and keeps nothing but its table."""
    node = t.node(x)
    return t.link(t.like(x), node, lambda g, node: [t.like(g)])


def turned_in_pairs(t: Tape, x: Value) -> Value:
    """Torchtune's rotation: neighbours in fp32, stacked anew; its table is a buffer of the model."""
    half = x.numel // 2
    wide = ops.cast(t, x, 4)
    narrow = x.element
    del x
    one, two = ops.part(t, wide, half), ops.part(t, wide, half)
    del wide
    first = ops.add(t, ops.scale(t, one), ops.scale(t, two))
    second = ops.add(t, ops.scale(t, two), ops.scale(t, one))
    return ops.cast(t, ops.cat(t, first, second), narrow)


def narrow_norm(t: Tape, x: Value, weight: Any, element: int, vectors: Quantity) -> Value:
    """``(x * rsqrt(mean(x * x))).to(dtype) * weight``; of Gemma one plus the weight."""
    wide = ops.cast(t, x, 4)
    inverse = ops.saving_output(t, ops.shift(t, ops.mean(t, ops.mul(t, wide, wide), vectors)))
    normed = ops.cast(t, ops.mul(t, wide, inverse), x.element)
    del wide, inverse
    return ops.mul(t, normed, weight) if isinstance(weight, Value) else ops.weigh(t, normed, weight, element)
