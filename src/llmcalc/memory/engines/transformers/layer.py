"""A layer as transformers runs it: widths of what it makes for each token, on one rank."""

from __future__ import annotations

from llmcalc.model.inventory import Cache, Dim, Group, Op
from llmcalc.placement import split_dim

ATTENTION = ("query", "key", "value", "qkv", "query_a", "query_b", "kv_a", "kv_b", "output")
MIXERS = ("ssm_", "delta_", "conv_in")


class Kept:
    """What a layer remembers of one sequence.

    Attributes
    ----------
    kind : str
        As of `Cache`.
    row, first : int
        Elements of one position: all, and of the part that grows first (the keys). [elements]
    window : int or None
        Positions that are looked at. [tokens]
    stream, precision : str
        Whose tokens, and in which precision.
    """

    __slots__ = ("first", "kind", "precision", "rate", "row", "stream", "window")

    def __init__(self, cache: Cache, tp: int) -> None:
        widths = [split_dim(dimension, tp)[0] for _, dimension in cache.parts]
        self.kind, self.stream, self.rate = cache.kind, cache.stream, cache.rate
        self.row, self.first = sum(widths), widths[0]
        self.window, self.precision = cache.positions, cache.precision


class Layer:
    """Equal layers, read once for many passes.

    Attributes
    ----------
    indices : tuple of int
        Which layers they are.
    out : dict
        Elements that each matrix makes for one token, by role. [elements]
    caches, states, crossed : list of Kept
        Of its own tokens, of fixed size, and of another stream's tokens.
    active : int
        Experts of one token. [-]
    experts : int
        Experts of the layer. [-]
    biased : bool
        Whether experts have biases, and with them GPT-OSS' clamped gate.
    heads, kv_heads : int
        Of queries, of keys, on one rank. [-]
    width, value : int
        Of one head of queries and keys, of values. [elements]
    """

    __slots__ = (
        "active", "biased", "caches", "crossed", "experts", "gated", "heads", "indices", "kv_heads",
        "norms", "ops", "out", "sinks", "states", "value", "width", "window",
    )  # fmt: skip

    def __init__(self, group: Group, tp: int) -> None:
        caches = group.caches
        self.indices = group.layers
        self.ops = {op.role: op for op in group.ops}
        self.out = {op.role: split_dim(op.out, tp)[0] for op in group.ops if op.kind == "linear"}
        self.norms = {op.role for op in group.ops if op.kind == "norm"}
        self.sinks = any(tensor.role == "sinks" for tensor in group.tensors)
        self.biased = any(t.role.startswith("expert_") and t.part == "bias" for t in group.tensors)
        own = [Kept(cache, tp) for cache in caches if cache.stream == "decoder"]
        self.caches = [kept for kept in own if kept.kind not in ("recurrent", "conv")]
        self.crossed = [Kept(cache, tp) for cache in caches if cache.stream != "decoder"]
        self.states = [kept for kept in own if kept.kind in ("recurrent", "conv")]
        down = self.ops.get("expert_down")
        self.active, self.experts = (down.active, down.stored) if down is not None else (0, 0)
        self.heads = self.kv_heads = self.width = self.value = 0
        self.window: int | None = None
        attention = self.ops.get("attention")
        if attention is not None:
            self._attention(attention, group, tp)
        self.gated = "query" in self.out and self.out["query"] == 2 * self.heads * self.width

    def _attention(self, op: Op, group: Group, tp: int) -> None:
        heads = _axis(op.out, "heads")
        self.width, self.value = _size(op.out) // heads, _size(op.inp) // heads
        self.heads = split_dim(op.out, tp)[0] // self.width
        self.kv_heads = self.heads
        for cache in group.caches:
            if cache.kind in ("full", "window", "chunk"):
                found = _axis(cache.parts[0][1], "kv_heads")
                self.kv_heads = max(found // tp, 1)
                self.window = cache.positions
                return

    @property
    def latent(self) -> bool:
        """Whether keys and values come of a latent."""
        return "kv_b" in self.out

    @property
    def repeats(self) -> bool:
        """Whether several query heads share a key head."""
        return self.heads > self.kv_heads


def _axis(dimension: Dim, name: str) -> int:
    return dict(dimension[0]).get(name, 1)


def _size(dimension: Dim) -> int:
    return split_dim(dimension, 1)[0]
