"""Layers of a converted model, as the graph's writers ask for them: shapes by role, heads, caches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.model.inventory import Cache, Group, Tensor, size

WINDOWED = ("window", "chunk")


def bias_of(role: str) -> str:
    """Name of a tensor's bias among weights: it may lie, and be copied, apart."""
    return f"{role}.bias"


class Weights:
    """Shapes of tensors by role, and which roles have a bias."""

    __slots__ = ("biased", "shapes")

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.biased: set[str] = set()
        for tensor in tensors:
            if tensor.part == "bias":
                self.biased.add(tensor.role)
            else:
                self.shapes[tensor.role] = tensor.shape

    def has(self, role: str) -> bool:
        """Whether there is such a tensor."""
        return role in self.shapes

    def has_bias(self, role: str) -> bool:
        """Whether that tensor has a bias."""
        return role in self.biased

    def rows(self, role: str) -> int:
        """Outputs of a matrix, elements of a vector; 0 if there is none. [elements]"""
        found = self.shapes.get(role)
        return found[0] if found else 0


class Outside(Weights):
    """What a model has outside its layers: embeddings, the head; of no groups, what is usual."""

    __slots__ = ()

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        super().__init__(tensor for group in groups if group.place != "layer" for tensor in group.tensors)
        if not self.shapes:
            self.shapes["final_norm"] = ()


class Layer(Weights):
    """One layer of a converted model: shapes of its tensors by role, and what it remembers.

    Attributes
    ----------
    group : Group
        Whose layer it is.
    heads, kv_heads, head_width, value_width : int
        Of its attention; 0 without. [-], [-], [elements], [elements]
    used : int
        Experts that a token uses; 0 without. [-]
    """

    __slots__ = ("group", "head_width", "heads", "kv_heads", "used", "value_width")

    def __init__(self, group: Group) -> None:
        super().__init__(group.tensors)
        self.group = group
        self.used = max((op.active for op in group.ops if op.stored > 1), default=0)
        self.heads = self.kv_heads = self.head_width = self.value_width = 0
        cache = self.cache
        if cache is not None and cache.kind != "latent":
            (_, key), (_, value) = cache.parts[:2] if len(cache.parts) > 1 else cache.parts * 2
            self.kv_heads = dict(key[0]).get("kv_heads", 1)
            self.head_width, self.value_width = size(key) // self.kv_heads, size(value) // self.kv_heads
        else:
            for tensor in group.tensors:
                if tensor.role in ("query", "qkv") and tensor.part == "weight":
                    self.head_width = self.value_width = dict(tensor.dims[0][0]).get("head_dim", 0)
        if self.value_width and "output" in self.shapes:
            self.heads = self.shapes["output"][-1] // self.value_width

    @property
    def cache(self) -> Cache | None:
        """What attention remembers here."""
        for cache in self.group.caches:
            if not cache.is_state and cache.kind in ("full", "latent", *WINDOWED):
                return cache
        return None

    @property
    def is_windowed(self) -> bool:
        """Whether its attention keeps a window only."""
        cache = self.cache
        return cache is not None and cache.kind in WINDOWED

    @property
    def sees_window(self) -> bool:
        """Whether its attention sees a window only, of its own cache or of one that it borrows."""
        borrows = self.cache is None
        return self.is_windowed or (
            borrows and any(op.kind == "attention" and op.window for op in self.group.ops)
        )

    @property
    def is_gated(self) -> bool:
        """Whether the query matrix holds a gate for each head beside the query."""
        return self.rows("query") == 2 * self.heads * self.head_width > 0

    @property
    def states(self) -> Mapping[str, Cache]:
        """Recurrent and convolution states by kind."""
        return {cache.kind: cache for cache in self.group.caches if cache.is_state}


def norm(graph: Graph, weights: Weights, x: Node, role: str, op: str = "") -> Node:
    """A norm and its weight: root-mean-square may be done in place, a layer norm not."""
    made = graph.like(op or ("norm" if weights.has_bias(role) else "rms_norm"), x)
    if weights.has(role):
        made = graph.like("mul", made, weight=role)
    return graph.like("add", made, weight=bias_of(role)) if weights.has_bias(role) else made


def state_elements(cache: Cache) -> int:
    """Elements of one sequence's state. [elements]"""
    return (cache.positions or 1) * sum(size(part) for _, part in cache.parts)
