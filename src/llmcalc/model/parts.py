"""The parts of an inventory: dimensions of named axes, tensors, caches, ops.

A *dimension* of a tensor is a concatenation of segments; a segment is a product of named axes. So a
plain projection is ``dim(heads=32, head_dim=128)`` and a fused one
``dim(heads=32, head_dim=128) + dim(kv_heads=8, head_dim=128)``. The axis names say how a tensor is
split over devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FLOATS = ("bf16", "fp16", "fp32", "fp64")
"""Dtypes that a model computes in; anything narrower is a way to store it."""

Segment = tuple[tuple[str, int], ...]
Dim = tuple[Segment, ...]

SPLIT_AXES = frozenset({"heads", "kv_heads", "ffn", "vocab", "state_heads", "key_heads", "groups"})
"""Axes that tensor parallelism divides; all others are held whole by every rank."""


def dim(**axes: int) -> Dim:
    """One dimension as a product of named axes; add several to concatenate them.

    Examples
    --------
    >>> size(dim(heads=32, head_dim=128) + dim(kv_heads=8, head_dim=128))
    5120
    """
    return (tuple(axes.items()),)


def size(dimension: Dim) -> int:
    """Elements along a dimension."""
    total = 0
    for segment in dimension:
        product = 1
        for _, length in segment:
            product *= length
        total += product
    return total


class Tensor:
    """A stored tensor of one layer (or of the model as a whole).

    Parameters
    ----------
    role : str
        What it does: ``query``, ``up``, ``expert_down``, ``embedding`` ...
    dims : tuple of Dim
        Its dimensions, in the order of the Hugging Face checkpoint.
    part : str
        ``weight``, ``bias``, or empty for a bare parameter.
    tag : str
        ``main``, ``mtp``, ``buffer``, ``scale`` or ``duplicate``.
    dtype : str, optional
        Its own dtype, where it differs from the model's.
    stored : sequence of Tensor
        What is stored in its place where it is quantized: packed elements, then scales.
    """

    __slots__ = ("dims", "dtype", "numel", "part", "role", "stored", "tag")

    def __init__(
        self,
        role: str,
        dims: tuple[Dim, ...],
        part: str = "weight",
        tag: str = "main",
        dtype: str | None = None,
        stored: Sequence[Tensor] = (),
    ) -> None:
        self.role, self.dims, self.part, self.tag, self.dtype = role, dims, part, tag, dtype
        self.stored = tuple(stored)
        numel = 1
        for dimension in dims:
            numel *= size(dimension)
        self.numel = numel

    @property
    def shape(self) -> tuple[int, ...]:
        """The plain shape."""
        return tuple(map(size, self.dims))

    def __repr__(self) -> str:
        return f"<{self.role} {self.part} {list(self.shape)} {self.tag}>"


class Cache:
    """What one layer must remember for one sequence.

    Parameters
    ----------
    kind : str
        ``full``, ``window``, ``chunk``, ``latent``, ``indexer``, ``cross``, ``compressed`` (entries for
        several tokens), ``tail`` (tokens that wait for their entry), ``recurrent`` or ``conv``.
    parts : tuple of (str, Dim)
        Named vectors per position: ``k`` and ``v``, ``latent`` ... [elements]
    positions : int or None
        Positions kept at most: the window; fixed positions of a state; None grows with the context.
    precision : str
        ``kv`` (the KV dtype), ``model`` (the model's dtype) or a format name such as ``fp32``.
    stream : str
        Whose tokens: ``decoder``, ``encoder`` or ``image``.
    rate : int
        Tokens that share one entry, where a cache is compressed along the sequence. [tokens]
    variants : mapping
        What an engine by that name keeps instead, where its code for this family is peculiar.
    """

    __slots__ = ("kind", "parts", "positions", "precision", "rate", "stream", "variants")

    def __init__(
        self,
        kind: str,
        parts: tuple[tuple[str, Dim], ...],
        positions: int | None = None,
        precision: str = "kv",
        stream: str = "decoder",
        variants: Mapping[str, Cache] | None = None,
        rate: int = 1,
    ) -> None:
        self.kind, self.parts, self.positions = kind, parts, positions
        self.precision, self.stream, self.variants = precision, stream, variants or {}
        self.rate = rate

    @property
    def is_state(self) -> bool:
        """Whether its size does not depend on the context."""
        return self.kind in ("recurrent", "conv")

    def __repr__(self) -> str:
        widths = ", ".join(f"{name} {size(dimension)}" for name, dimension in self.parts)
        kept = "all positions" if self.positions is None else f"{self.positions} positions"
        return f"<{self.kind}: {widths}; {kept}>"


class Op:
    """What one layer executes for one token.

    Parameters
    ----------
    kind : str
        ``linear``, ``embedding``, ``norm``, ``activation``, ``attention``, ``conv``, ``scan`` or ``rope``.
    role : str
        Role of the tensor it uses, or its own name.
    out, inp : Dim
        Width of what it makes and of what it reads; for attention the query-key and the value width.
    active, stored : int
        Of `stored` copies (experts) each token runs `active`.
    window : int, optional
        Positions that attention looks at; None for all.
    """

    __slots__ = ("active", "inp", "kind", "out", "role", "stored", "window")

    def __init__(
        self,
        kind: str,
        role: str,
        out: Dim,
        inp: Dim,
        active: int = 1,
        stored: int = 1,
        window: int | None = None,
    ) -> None:
        self.kind, self.role, self.out, self.inp = kind, role, out, inp
        self.active, self.stored, self.window = active, stored, window

    def __repr__(self) -> str:
        return f"<{self.kind} {self.role} {size(self.out)}x{size(self.inp)} {self.active}/{self.stored}>"
