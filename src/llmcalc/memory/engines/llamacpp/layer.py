"""Layers of a converted model, as the graph's writers ask for them: shapes by role, heads, caches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.model.inventory import Cache, Group, Tensor, size

WINDOWED = ("window", "chunk")


class Layer:
    """One layer of a converted model: shapes of its tensors by role, and what it remembers.

    Attributes
    ----------
    group : Group
        Whose layer it is; `tensors` are its own unless others are given.
    heads, kv_heads, head_width, value_width : int
        Of its attention; 0 without. [-], [-], [elements], [elements]
    """

    __slots__ = ("biased", "group", "head_width", "heads", "kv_heads", "shapes", "used", "value_width")

    def __init__(self, group: Group, tensors: Sequence[Tensor] = ()) -> None:
        self.group = group
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.biased: set[str] = set()
        for tensor in tensors or group.tensors:
            if tensor.part == "bias":
                self.biased.add(tensor.role)
            else:
                self.shapes[tensor.role] = tensor.shape
        self.used = max((op.active for op in group.ops if op.stored > 1), default=0)
        self.heads = self.kv_heads = self.head_width = self.value_width = 0
        cache = self.cache
        if cache is not None and cache.kind != "latent":
            (_, key), (_, value) = cache.parts[:2] if len(cache.parts) > 1 else cache.parts * 2
            self.kv_heads = dict(key[0]).get("kv_heads", 1)
            self.head_width, self.value_width = size(key) // self.kv_heads, size(value) // self.kv_heads
        elif "query" in self.shapes:
            query = next(t for t in tensors or group.tensors if t.role == "query").dims[0][0]
            self.head_width = self.value_width = dict(query).get("head_dim", 0)
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
        """Whether its attention sees a window only."""
        cache = self.cache
        return cache is not None and cache.kind in WINDOWED

    @property
    def is_gated(self) -> bool:
        """Whether the query matrix holds a gate for each head beside the query."""
        return self.rows("query") == 2 * self.heads * self.head_width > 0

    @property
    def states(self) -> Mapping[str, Cache]:
        """Recurrent and convolution states by kind."""
        return {cache.kind: cache for cache in self.group.caches if cache.is_state}

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


def norm(graph: Graph, layer: Layer, x: Node, role: str) -> Node:
    """A norm and its weight: root-mean-square may be done in place, a layer norm not."""
    made = graph.like("norm" if layer.has_bias(role) else "rms_norm", x)
    if layer.has(role):
        made = graph.like("mul", made, weight=role)
    return graph.like("add", made, weight=role) if layer.has_bias(role) else made


def state_elements(cache: Cache) -> int:
    """Elements of one sequence's state. [elements]"""
    return (cache.positions or 1) * sum(size(part) for _, part in cache.parts)
