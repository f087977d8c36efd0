"""Graphs of tensors, as far as their sizes and lifetimes go.

llama.cpp writes a graph of operations and lets ggml place its intermediate tensors. What a buffer takes
follows from shapes, from who reads what, and from the order of evaluation: all of that is here, and
nothing of the arithmetic. Shapes count the fastest dimension first, as ggml does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Shape = tuple[int, int, int, int]

SIZES = {"f32": 4, "f16": 2, "bf16": 2, "i32": 4, "i64": 8}
"""Bytes of one element of what is computed. [B]"""

IN_PLACE = frozenset(
    ("fill", "scale", "add", "add_id", "sub", "mul", "div", "sqr", "sqrt", "log", "unary", "rope",
     "rms_norm", "clamp", "soft_max")
)  # fmt: skip
"""Operations that may write over an argument that nobody else reads (`ggml-alloc.c`)."""


class Node:
    """One tensor: an input, a result, or a view of another.

    Attributes
    ----------
    op : str
        What makes it; "" for inputs, caches and weights.
    kind : str
        Its element type.
    ne, strides : tuple of int
        Elements along each dimension, and bytes from one to the next. [elements], [B]
    sources : tuple of Node
        What it is computed from, weights aside.
    weight : str
        Role of the weight that it also reads, if any.
    layer : int
        Whose it is: -1 of the embedding, the number of layers of the head.
    root : Node or None
        Whose memory it is a view of.
    placed : bool
        Whether the allocator gives it memory: not caches, and no views.
    kept : bool
        Whether it is a result of the whole graph, which is never freed.
    """

    __slots__ = (
        "backend", "bytes", "held", "home", "kept", "kind", "layer", "ne", "op", "placed", "readers",
        "root", "seen", "sources", "strides", "views", "weight", "width",
    )  # fmt: skip

    def __init__(
        self, op: str, kind: str, ne: Shape, sources: tuple[Node, ...] = (), root: Node | None = None,
        strides: Shape | None = None, placed: bool = True, width: Any = 0,
    ) -> None:  # fmt: skip
        self.op, self.kind, self.ne, self.sources, self.root = op, kind, ne, sources, root
        size = self.width = width or SIZES[kind]
        self.strides = strides or (size, size * ne[0], size * ne[0] * ne[1], size * ne[0] * ne[1] * ne[2])
        self.bytes = int(size * ne[0] * ne[1] * ne[2] * ne[3])
        self.placed = placed and root is None
        self.kept = self.seen = self.held = False
        self.readers = self.views = self.home = self.backend = self.layer = 0
        self.weight = ""

    def __repr__(self) -> str:
        return f"<{self.op or 'input'} {self.kind} {list(self.ne)}>"

    def is_like(self, other: Node) -> bool:
        """Whether both are laid out alike."""
        return self.kind == other.kind and self.ne == other.ne and self.strides == other.strides

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements follow one another without gaps."""
        expected = self.width
        for length, stride in zip(self.ne, self.strides, strict=True):
            if length > 1 and stride != expected:
                return False
            expected *= length
        return True


def adapter_role(weight: str, part: str, number: int) -> str:
    """The role of a part of the n-th adapter of a weight."""
    return f"{weight}.lora_{part}.{number}"


def shape(ne: Iterable[int]) -> Shape:
    """Four dimensions of up to four."""
    full = (*ne, 1, 1, 1, 1)
    return full[0], full[1], full[2], full[3]


class Graph:
    """Operations in the order in which they are evaluated.

    `expand` appends what a tensor needs and the tensor itself, arguments before results, left before right.

    Attributes
    ----------
    inputs, nodes : list of Node
        What is filled before the graph runs, and what it computes.
    layer : int
        The layer that is being written.
    adapters : mapping
        Ranks of the adapters of a weight, by layer and role.
    """

    __slots__ = ("adapters", "inputs", "layer", "nodes")

    def __init__(self, adapters: Mapping[tuple[int, str], Sequence[int]] | None = None) -> None:
        self.adapters = adapters or {}
        self.inputs: list[Node] = []
        self.nodes: list[Node] = []
        self.layer = -1

    def expand(self, node: Node) -> Node:
        """Have a tensor and all that it needs evaluated by now."""
        if not node.seen:
            node.seen = True
            for source in node.sources:
                self.expand(source)
            (self.nodes if node.op else self.inputs).append(node)
        return node

    def input(self, kind: str, *ne: int) -> Node:
        """A tensor that is filled before the graph runs."""
        return Node("", kind, shape(ne))

    def cache(self, kind: str, width: Any, *ne: int) -> Node:
        """A tensor that lives outside the graph; `width` is the bytes of an element, blocks shared out."""
        made = Node("", kind, shape(ne), placed=False, width=width)
        made.layer = self.layer
        return made

    def result(self, op: str, kind: str, ne: Sequence[int], *sources: Node, weight: str = "") -> Node:
        """A tensor of its own."""
        made = Node(op, kind, shape(ne), sources)
        made.layer, made.weight = self.layer, weight
        return made

    def like(self, op: str, first: Node, *others: Node, weight: str = "") -> Node:
        """A result of the shape and type of its first argument, without gaps."""
        return self.result(op, first.kind, first.ne, first, *others, weight=weight)

    def linear(self, rows: int, x: Node, weight: str) -> Node:
        """A product with a weight of so many rows, and what adapters add to it."""
        made = self.result("mul_mat", "f32", (rows, *x.ne[1:]), x, weight=weight)
        return self.adapted(made, weight, x) if self.adapters else made

    def adapted(self, made: Node, weight: str, *sources: Node, op: str = "mul_mat") -> Node:
        """A result of a weight, and what its adapters add: two products, scaled (`build_lora_mm`)."""
        for number, rank in enumerate(self.adapters.get((self.layer, weight), ())):
            down, up = adapter_role(weight, "a", number), adapter_role(weight, "b", number)
            inner = self.result(op, "f32", (rank, *made.ne[1:]), *sources, weight=down)
            back = "mul_mat" if op == "get_rows" else op
            own = self.result(back, "f32", made.ne, inner, *sources[1:], weight=up)
            made = self.like("add", made, self.like("scale", own))
        return made

    def mul_mat(self, a: Node, b: Node) -> Node:
        """A product of two tensors that share their first dimension."""
        return self.result("mul_mat", "f32", (a.ne[1], *b.ne[1:]), a, b)

    def view(self, x: Node, ne: Sequence[int], strides: Sequence[int] = (), op: str = "view") -> Node:
        """Part of a tensor, or all of it in another shape; strides that are left out have no gaps."""
        full = shape(ne)
        steps = list(strides) or [x.strides[0]]
        while len(steps) < 4:
            steps.append(steps[-1] * full[len(steps) - 1])
        made = Node(
            op, x.kind, full, (x,), x.root or x, (steps[0], steps[1], steps[2], steps[3]), width=x.width
        )
        made.layer = self.layer
        return made

    def reshape(self, x: Node, *ne: int) -> Node:
        """The same elements in another shape."""
        return self.view(x, ne, op="reshape")

    def permute(self, x: Node, *axes: int) -> Node:
        """Dimension i becomes dimension ``axes[i]``."""
        ne, strides = [0] * 4, [0] * 4
        for source, target in enumerate(axes):
            ne[target], strides[target] = x.ne[source], x.strides[source]
        return self.view(x, ne, strides, op="permute")

    def transpose(self, x: Node) -> Node:
        """The first two dimensions swapped."""
        return self.permute(x, 1, 0, 2, 3)

    def cont(self, x: Node, *ne: int) -> Node:
        """A copy without gaps."""
        made = Node("cont", x.kind, shape(ne) if ne else x.ne, (x,), width=x.width)
        made.layer = self.layer
        return made

    def get_rows(self, x: Node, rows: Node) -> Node:
        """Rows of a tensor."""
        return self.result("get_rows", "f32", (x.ne[0], rows.ne[0], rows.ne[1], rows.ne[2]), x, rows)

    def write(self, op: str, target: Node, *parts: Node) -> Node:
        """Write into a tensor: the result is a view of it."""
        made = Node(op, target.kind, target.ne, (*parts, target), target.root or target, target.strides,
                    width=target.width)  # fmt: skip
        made.layer = self.layer
        return made
