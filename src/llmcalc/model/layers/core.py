"""How a builder's call becomes a comparable block, and a block its tensors, caches and ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

from llmcalc.model.inventory import Cache, Dim, Op, Tensor, dim

P = ParamSpec("P")
Block = tuple[tuple[Callable[..., Any], tuple[Any, ...], tuple[tuple[str, Any], ...]], ...]


class Lowered:
    """The lists that a layer lowers to, filled by a builder."""

    __slots__ = ("caches", "ops", "tensors")

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.caches: list[Cache] = []
        self.ops: list[Op] = []

    def linear(
        self, role: str, out: Dim, inp: Dim, bias: bool = False, transposed: bool = False,
        active: int = 1, experts: int = 1, fused_experts: bool = False,
    ) -> None:  # fmt: skip
        """Add a matrix (with `experts`, one for each expert) and the product that uses it."""
        lead: tuple[Dim, ...] = (dim(expert=experts),) if experts > 1 or fused_experts else ()
        body = (inp, out) if transposed else (out, inp)
        self.tensors.append(Tensor(role, lead + body))
        if bias:
            self.tensors.append(Tensor(role, (*lead, out), "bias"))
        self.ops.append(Op("linear", role, out, inp, active, experts))

    def norm(self, role: str, width: Dim, bias: bool = False, weight: bool = True) -> None:
        """Add a norm over `width`."""
        if weight:
            self.tensors.append(Tensor(role, (width,)))
            if bias:
                self.tensors.append(Tensor(role, (width,), "bias"))
        self.ops.append(Op("norm", role, width, width))

    def parameter(self, role: str, *dims: Dim, tag: str = "main", dtype: str | None = None) -> None:
        """Add a bare parameter."""
        self.tensors.append(Tensor(role, dims, "", tag, dtype))


def builder(function: Callable[P, Lowered]) -> Callable[P, Block]:
    """Make a layer builder return its call as a comparable block, to be expanded once."""

    def call(*args: P.args, **kwargs: P.kwargs) -> Block:
        return ((function, args, tuple(kwargs.items())),)

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    call.__module__ = function.__module__
    return call


def lower(block: Block) -> Lowered:
    """Expand a block into its tensors, caches and ops."""
    whole = Lowered()
    for function, args, kwargs in block:
        part: Lowered = function(*args, **dict(kwargs))
        whole.tensors += part.tensors
        whole.caches += part.caches
        whole.ops += part.ops
    return whole
