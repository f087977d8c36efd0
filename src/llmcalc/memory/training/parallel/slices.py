"""What a tensor and expert rank holds of a model: the same inventory with narrower axes."""

from __future__ import annotations

from collections.abc import Container
from copy import copy

from llmcalc.formula import ceil_div
from llmcalc.model.inventory import SPLIT_AXES, Cache, Dim, Inventory, Op, Tensor

VOCABULARY = 128
"""Megatron pads the vocabulary to a multiple of this on each tensor rank. [-]"""


def sliced(inventory: Inventory, tp: int = 1, ep: int = 1, etp: int = 1, pads: bool = False) -> Inventory:
    """The part of a model that one tensor and expert rank holds, all layers of it.

    Parameters
    ----------
    inventory : Inventory
        The whole model.
    tp, ep, etp : int
        Ranks that share each tensor, the experts, and each expert's tensors. [-]
    pads : bool
        Whether the vocabulary is padded to a multiple of 128 on each rank, as Megatron does.

    Examples
    --------
    >>> import llmcalc
    >>> whole = llmcalc.model("llama-3-70b")
    >>> half = sliced(whole, tp=2)
    >>> whole.params - 2 * half.params == -(2 * 80 + 1) * 8192  # norms are on both
    True
    """
    if tp == ep == etp == 1 and not pads:
        return inventory
    cut = _Cut(tp, ep, etp, pads)
    groups = []
    for group in inventory.groups:
        if group.component != "text":
            groups.append(group)
            continue
        own = copy(group)
        own.tensors = tuple(map(cut.tensor, group.tensors))
        own.caches = tuple(map(cut.cache, group.caches))
        own.ops = tuple(map(cut.op, group.ops))
        groups.append(own)
    return inventory.with_groups(groups)


class _Cut:
    def __init__(self, tp: int, ep: int, etp: int, pads: bool) -> None:
        self.tp, self.ep, self.etp, self.pads = tp, ep, etp, pads

    def _length(self, axis: str, length: int, by: int) -> int:
        if axis == "vocab" and self.pads:
            unit = VOCABULARY * self.tp
            return int(ceil_div(length, unit) * unit // self.tp)
        return int(ceil_div(length, by))

    def _dim(self, dimension: Dim, by: int) -> tuple[Dim, bool]:
        segments, cut = [], False
        for segment in dimension:
            axes, done = [], False
            for axis, length in segment:
                if not done and axis in SPLIT_AXES:
                    length, done = self._length(axis, length, by), True
                axes.append((axis, length))
            segments.append(tuple(axes))
            cut = cut or done
        return tuple(segments), cut

    def tensor(self, tensor: Tensor) -> Tensor:
        """A tensor's part: experts among expert ranks, then one dimension among tensor ranks."""
        expert = tensor.role.startswith("expert_")
        by, dims, done = self.etp if expert else self.tp, [], False
        for place, dimension in enumerate(tensor.dims):
            if expert and place == 0 and dimension[0][0][0] == "expert":
                dims.append(_spread(dimension, self.ep))
                continue
            if not done:
                dimension, done = self._dim(dimension, by)
            dims.append(dimension)
        stored = [self._stored(tensor, part) for part in tensor.stored]
        return Tensor(tensor.role, tuple(dims), tensor.part, tensor.tag, tensor.dtype, stored)

    def _stored(self, tensor: Tensor, part: Tensor) -> Tensor:
        """What is stored in place of a matrix, shared as the matrix is."""
        by = (self.etp if tensor.role.startswith("expert_") else self.tp) * (
            self.ep if tensor.role.startswith("expert_") else 1
        )
        held = ceil_div(part.numel, by)
        return Tensor(part.role, (((("block", int(held)),),),), part.part, part.tag, part.dtype)

    def cache(self, cache: Cache) -> Cache:
        """A cache's part, which tells how many key heads a rank has."""
        parts = tuple((name, self._dim(dimension, self.tp)[0]) for name, dimension in cache.parts)
        return Cache(
            cache.kind, parts, cache.positions, cache.precision, cache.stream, cache.variants, cache.rate
        )

    def op(self, op: Op) -> Op:
        """An operation's part, with the experts of this rank."""
        by = self.etp if op.role.startswith("expert_") else self.tp
        out, inp = self._dim(op.out, by)[0], self._dim(op.inp, by)[0]
        stored = op.stored // self.ep if op.role.startswith("expert_") else op.stored
        return Op(op.kind, op.role, out, inp, op.active, stored, op.window)


def _spread(dimension: Dim, ep: int) -> Dim:
    return tuple(
        tuple((axis, length // ep if axis == "expert" else length) for axis, length in segment)
        for segment in dimension
    )


def part_of(
    inventory: Inventory, layers: Container[int], embedding: bool, head: bool, experts: bool | None = None
) -> Inventory:
    """The layers that a pipeline stage holds, of all tensors, or of the routed experts' or all others.

    Towers of other components lie on the first stage, with the embedding.
    """
    groups = []
    for group in inventory.groups:
        kept: tuple[int, ...] = group.layers
        if group.component != "text":
            if not embedding:
                continue
        elif group.place == "embedding":
            # A tied table stands on the last stage too, as that stage's head.
            if not embedding and not (head and _tied(inventory)):
                continue
        elif group.place == "head":
            if not head:
                continue
        else:
            kept = tuple(layer for layer in group.layers if layer in layers)
            if group.layers and not kept:
                continue
        own = copy(group)
        own.layers = kept
        own.tensors = tuple(
            t for t in group.tensors if experts is None or t.role.startswith("expert_") == experts
        )
        own.stored = group.stored if group.stored is None else min(group.stored, len(kept))
        groups.append(own)
    return inventory.with_groups(groups)


def _tied(inventory: Inventory) -> bool:
    """Whether the head multiplies with the embedding's table."""
    return any(
        op.role == "embedding" and op.kind == "linear"
        for group in inventory.groups
        if group.place == "head"
        for op in group.ops
    )
