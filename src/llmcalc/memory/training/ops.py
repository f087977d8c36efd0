"""Operations as PyTorch differentiates them: what each makes, saves, and makes again in backward.

A parameter is a `Sink`: it takes no memory here, and its gradient goes to it. `WEIGHT` among what is saved
stands for a parameter, which autograd saves as well, without memory of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.formula import Quantity
from llmcalc.memory.training.tape import WEIGHT, Node, Sink, Tape, Value

Grads = list[Any]


def cast(t: Tape, x: Value, element: int) -> Value:
    """``x.to(dtype)``: nothing happens where it has that dtype already."""
    if x.element == element:
        return x
    node = t.node(x)
    return t.link(t.like(x, element), node, _same)


def copy(t: Tape, x: Value) -> Value:
    """``x.contiguous()`` of a tensor that is not; its gradient needs no copy."""
    node = t.node(x)
    return t.link(t.like(x), node, _same)


def _same(g: Value, node: Node) -> Grads:
    return [g]


def add(t: Tape, a: Value, b: Value) -> Value:
    """A sum; both gradients are the one that came."""
    node = t.node(a, b)
    wide = a if _covers(a, b) else b
    return t.link(t.new(wide.numel, max(a.element, b.element)), node, lambda g, node: [g, g])


def add_(t: Tape, a: Value, b: Value) -> Value:
    """A sum written over its first part."""
    node = t.node(a, b)
    out = Value(a.storage, a.numel, a.element)
    return t.link(out, node, lambda g, node: [g, g])


def scale(t: Tape, x: Value) -> Value:
    """A product with a plain number."""
    node = t.node(x)
    return t.link(t.like(x), node, lambda g, node: [t.like(g)])


def shift(t: Tape, x: Value) -> Value:
    """A sum with a plain number."""
    node = t.node(x)
    return t.link(t.like(x), node, _same)


def mul(t: Tape, a: Value, b: Value) -> Value:
    """A product: each factor is saved if the other one's gradient is wanted."""
    node = t.node(a, b)
    if node is not None:
        t.save(node, *([a] if node.needs(1) else []), *([b] if node.needs(0) else []))
    wide = a if _covers(a, b) else b
    out = t.new(wide.numel, max(a.element, b.element))
    elements = a.element, b.element

    def back(g: Value, node: Node) -> Grads:
        return [t.like(g, max(g.element, elements[1 - i])) if node.needs(i) else None for i in (0, 1)]

    return t.link(out, node, back)


def weigh(t: Tape, x: Value, weight: Sink | None, element: int) -> Value:
    """A product with a parameter of that element width."""
    node = t.node(x, weight)
    if node is not None:
        t.save(node, *([x] if node.needs(1) else []), *([WEIGHT] if node.needs(0) else []))
    out = t.like(x, max(x.element, element))
    narrow = x.element

    def back(g: Value, node: Node) -> Grads:
        return [
            t.like(g) if node.needs(0) else None,
            t.like(g, max(g.element, narrow)) if node.needs(1) else None,
        ]

    return t.link(out, node, back)


def power(t: Tape, x: Value) -> Value:
    """``x.pow(n)``: the base is saved; backward raises it again, and scales that."""
    node = t.node(x)
    t.save(node, x)

    def back(g: Value, node: Node) -> Grads:
        raised = t.like(g)
        scaled = t.like(g)
        out = t.like(g)
        del raised, scaled
        return [out]

    return t.link(t.like(x), node, back)


def mean(t: Tape, x: Value, numel: Quantity) -> Value:
    """A mean over the last axis, of which so many elements remain."""
    node = t.node(x)
    whole = x.numel
    return t.link(t.new(numel, x.element), node, lambda g, node: [t.new(whole, g.element)])


def total(t: Tape, x: Value, numel: Quantity) -> Value:
    """A sum over an axis; its gradient is a view."""
    node = t.node(x)
    whole = x.numel
    return t.link(t.new(numel, x.element), node, lambda g, node: [Value(g.storage, whole, g.element)])


def saving_input(t: Tape, x: Value) -> Value:
    """An elementwise function whose backward is one kernel over its input: silu, gelu, softplus ..."""
    node = t.node(x)
    t.save(node, x)
    return t.link(t.like(x), node, lambda g, node: [t.like(g)])


def saving_output(t: Tape, x: Value) -> Value:
    """An elementwise function whose backward is one kernel over its result: sigmoid, tanh, rsqrt ..."""
    node = t.node(x)
    out = t.like(x)
    t.save(node, out)
    return t.link(out, node, lambda g, node: [t.like(g)])


def clamp(t: Tape, x: Value, sides: int = 2) -> Value:
    """Limits to a value; backward compares once for each side, and once more to join both."""
    node = t.node(x)
    t.save(node, x)

    def back(g: Value, node: Node) -> Grads:
        tests = [t.new(g.numel, 1) for _ in range(2 * sides - 1)]
        out = t.like(g)
        del tests
        return [out]

    return t.link(t.like(x), node, back)


def part(t: Tape, x: Value, numel: Quantity) -> Value:
    """A slice, which is a view; its gradient is laid into zeros."""
    node = t.node(x)
    whole = x.numel
    out = Value(x.storage, numel, x.element)
    return t.link(out, node, lambda g, node: [t.new(whole, g.element)])


def split(t: Tape, x: Value, sizes: Sequence[Quantity]) -> list[Value]:
    """Views of the whole side by side; their gradients are put together again."""
    node = t.node(x, outputs=len(sizes))
    whole, narrow = x.numel, x.element

    def back(*given: Any) -> Grads:
        return [t.new(whole, narrow)]

    return [t.link(Value(x.storage, n, x.element), node, back, i) for i, n in enumerate(sizes)]


def cat(t: Tape, *values: Value) -> Value:
    """Side by side in new memory; the gradients are views."""
    node = t.node(*values)
    sizes = [value.numel for value in values]
    wide = max(value.element for value in values)
    out = t.new(sum(sizes[1:], sizes[0]), wide)

    def back(g: Value, node: Node) -> Grads:
        return [Value(g.storage, n, g.element) for n in sizes]

    return t.link(out, node, back)


def repeat(t: Tape, x: Value, numel: Quantity) -> Value:
    """``expand`` and then a copy, as for keys and values of grouped heads."""
    node = t.node(x)
    own = x.numel
    return t.link(t.new(numel, x.element), node, lambda g, node: [t.new(own, g.element)])


def matmul(t: Tape, a: Value, b: Value, numel: Quantity) -> Value:
    """A batched product of two activations."""
    node = t.node(a, b)
    if node is not None:
        t.save(node, *([a] if node.needs(1) else []), *([b] if node.needs(0) else []))
    sizes, element = (a.numel, b.numel), max(a.element, b.element)

    def back(g: Value, node: Node) -> Grads:
        return [t.new(sizes[i], g.element) if node.needs(i) else None for i in (0, 1)]

    return t.link(t.new(numel, element), node, back)


def index(t: Tape, x: Value, numel: Quantity, indices: Value) -> Value:
    """Rows by index; the gradient is added into zeros."""
    node = t.node(x)
    t.save(node, indices)
    whole = x.numel
    return t.link(t.new(numel, x.element), node, lambda g, node: [t.new(whole, g.element)])


def unpacked(t: Tape, bytes_: Quantity, twice: bool = False) -> Value | None:
    """The 16-bit matrix made of a packed one; `twice`: in fp16 first, then in the dtype of the product."""
    tile = t.new(bytes_, 1)
    if twice:
        tile = t.new(bytes_, 1)
    return tile


def linear(
    t: Tape, x: Value, weight: Any, bias: Any, out: Quantity, rows: Quantity, *,
    size: int = 0, packed: Quantity = 0, keeps: bool = False, twice: bool = False,
) -> Value:  # fmt: skip
    """``x @ weight.T + bias``: the input is saved if the weight trains, the weight for the input's gradient.

    `weight` is a parameter or autocast's copy of it, of `size` elements. `packed` bytes of the matrix are
    unpacked here, and again in backward; `keeps` saves the input though the weight does not train.
    """
    node = t.node(x, weight, bias)
    if node is not None:
        kept = weight if isinstance(weight, Value) else WEIGHT
        t.save(node, *([x] if keeps or node.needs(1) else []), *([kept] if node.needs(0) else []))
    tile = unpacked(t, packed, twice)
    made = t.product(out * rows, x.element)
    del tile
    whole, element = x.numel, x.element

    def back(g: Value, node: Node) -> Grads:
        tile = unpacked(t, packed, twice) if node.needs(0) else None
        grads = [
            t.new(whole, element) if node.needs(0) else None,
            t.new(size, element) if node.needs(1) else None,
            g if node.needs(2) else None,
        ]
        del tile
        return grads

    return t.link(made, node, back)


def embedding(t: Tape, ids: Value, weight: Sink | None, numel: Quantity, element: int) -> Value:
    """Rows of a table; its gradient is a whole table."""
    node = t.node(weight)
    t.save(node, ids)
    size = weight.numel if weight is not None else 0
    return t.link(t.new(numel, element), node, lambda g, node: [t.new(size, g.element)])


def layer_norm(t: Tape, x: Value, weight: Any, bias: Sink | None, vectors: Quantity, wide: int) -> Value:
    """The fused kernel: it saves its input, and mean and scale of each vector in `wide` bytes."""
    node = t.node(x, weight, bias)
    stats = t.new(2 * vectors, wide)
    out = t.like(x)
    t.save(node, x, weight if isinstance(weight, Value) else WEIGHT)
    t.save(node, stats)
    sizes = [s.numel if s is not None else 0 for s in (weight, bias)]

    def back(g: Value, node: Node) -> Grads:
        made: Grads = [t.like(g) if node.needs(0) else None]
        return made + [t.new(size, g.element) if node.needs(i + 1) else None for i, size in enumerate(sizes)]

    return t.link(out, node, back)


def _covers(a: Value, b: Value) -> bool:
    """Whether the first is the larger one of two that broadcast."""
    larger = a.numel >= b.numel
    return larger if isinstance(larger, bool) else bool(larger.all())


def softmax(t: Tape, x: Value, through_copy: bool = False) -> Value:
    """A softmax in fp32 of what may be narrower; on a CPU the wider copy is made first."""
    if through_copy:
        return saving_output(t, cast(t, x, 4))
    node = t.node(x)
    out = t.like(x, 4)
    t.save(node, out)
    narrow = x.element
    return t.link(out, node, lambda g, node: [t.like(g, narrow)])


def written(t: Tape, whole: Value, x: Value, numel: Quantity = None) -> Value:
    """``whole[...] = x``, perhaps expanded: the gradient of the whole is copied, that of the part a view."""
    node = t.node(whole, x)
    own, wide = x.numel, whole.numel
    out = Value(whole.storage, whole.numel, whole.element)
    expanded = numel is not None

    def back(g: Value, node: Node) -> Grads:
        rest = t.new(wide, g.element) if node.needs(0) else None
        if not node.needs(1):
            return [rest, None]
        return [rest, t.new(own, g.element) if expanded else Value(g.storage, own, g.element)]

    return t.link(out, node, back)


def less_largest(t: Tape, x: Value, rows: Quantity) -> Value:
    """``x - x.max(-1)``: where each row's largest stands is saved, and its gradient laid into zeros."""
    node = t.node(x)
    largest, places = t.new(rows, x.element), t.new(rows, 8)
    t.save(node, places)
    whole = x.numel
    largest = t.link(largest, node, lambda g, node: [t.new(whole, g.element)])
    del places
    both = t.node(x, largest)
    return t.link(t.like(x), both, lambda g, node: [g, t.like(g)])
