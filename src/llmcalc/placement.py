"""Placement: which part of a model a rank holds."""

from __future__ import annotations

from collections.abc import Iterable

from llmcalc.errors import InputError, one_of
from llmcalc.formula import ceil_div
from llmcalc.model.inventory import SPLIT_AXES, Cache, Dim, Group, Inventory, Tensor


def split_dim(dimension: Dim, tp: int) -> tuple[int, bool]:
    """Elements of a dimension on one tensor rank, and whether anything was split."""
    total, was_split = 0, False
    for segment in dimension:
        product, done = 1, False
        for axis, length in segment:
            if not done and axis in SPLIT_AXES:
                length, done = ceil_div(length, tp), True
            product *= length
        total += product
        was_split = was_split or done
    return total, was_split


def rank_numel(tensor: Tensor, tp: int) -> int:
    """Elements of a tensor that one tensor rank holds: split along its first dimension that can be.

    Examples
    --------
    >>> from llmcalc.model.inventory import Tensor, dim
    >>> rank_numel(Tensor("key", (dim(kv_heads=8, head_dim=128), dim(hidden=4096))), 4)
    1048576
    """
    if tp == 1:
        return tensor.numel
    product, done = 1, False
    for dimension in tensor.dims:
        length, was_split = split_dim(dimension, 1 if done else tp)
        product *= length
        done = done or was_split
    return product


def rank_stored(tensor: Tensor, tp: int) -> list[int]:
    """Elements of each tensor stored in place of a quantized one (or of itself) on one tensor rank.

    Packed elements, however they lie, are shared as the matrix is; scales along axes of their own.
    """
    if tp == 1 or not tensor.stored:
        return [part.numel for part in tensor.stored] or [rank_numel(tensor, tp)]
    packed, *scales = tensor.stored
    share = ceil_div(packed.numel * rank_numel(tensor, tp), tensor.numel)
    return [share, *(rank_numel(part, tp) for part in scales)]


def rank_width(cache: Cache, part: int, tp: int) -> int:
    """Elements of one part of a cache at one position, on one tensor rank."""
    return split_dim(cache.parts[part][1], tp)[0]


class Placement:
    """How a model lies on ranks: `tp` tensor ranks times `pp` pipeline stages, `dp` replicas.

    All tensor ranks of a stage hold the same amount, so there is one rank class a stage.
    """

    __slots__ = ("dp", "pp", "stages", "tp")

    def __init__(self, tp: int, pp: int, dp: int, layers: int) -> None:
        self.tp, self.pp, self.dp = tp, pp, dp
        base, extra = divmod(layers, pp)
        self.stages: list[tuple[int, int]] = []
        start = 0
        for stage in range(pp):
            end = start + base + (1 if stage < extra else 0)
            self.stages.append((start, end))
            start = end

    @property
    def ranks(self) -> list[str]:
        """Names of the rank classes."""
        if self.pp == 1:
            return ["all"]
        return [f"stage {stage + 1} of {self.pp}" for stage in range(self.pp)]

    @property
    def gpus(self) -> int:
        """GPUs of one replica. [-]"""
        return self.tp * self.pp

    def stored(self, group: Group, stage: int) -> int:
        """How many copies of a group's tensors a stage holds; shared ones once wherever they run."""
        count = self.count(group, stage)
        return count if group.stored is None else min(count, group.stored)

    def count(self, group: Group, stage: int) -> int:
        """How many of a group's layers run on a stage."""
        if group.place == "embedding":
            return int(stage == 0)
        if group.place == "head":
            return int(stage == self.pp - 1)
        if self.pp == 1:
            return len(group.layers)
        if group.component != "text":
            return len(group.layers) if stage == 0 else 0
        from bisect import bisect_left

        start, end = self.stages[stage]
        return bisect_left(group.layers, end) - bisect_left(group.layers, start)


def divisors(number: int, most: int = 64) -> list[int]:
    """Divisors of a number, up to a limit."""
    return [value for value in range(1, min(number, most) + 1) if number % value == 0]


def place(inventory: Inventory, tp: int, pp: int, dp: int = 1, most: int = 1) -> Placement:
    """Check a placement against a model; `most` is how many GPUs there are, for the remedy.

    Raises
    ------
    InputError
        If `tp` does not divide what it must, or there are fewer layers than stages.
    """
    for what, number in inventory.split.items():
        if number % tp:
            allowed = [str(value) for value in divisors(number, most if most > 1 else 64)]
            raise InputError(
                f"--tp {tp} does not divide {number} {what} of {inventory.name}.",
                f"Use --tp {one_of(allowed[:10])}.",
            )
    for width in _kv_heads(inventory):
        if width % tp and tp % width:
            heads = next(iter(inventory.split.values()))
            allowed = [str(v) for v in divisors(heads) if not width % v or not v % width]
            raise InputError(
                f"--tp {tp} neither divides nor is a multiple of {width} KV heads of {inventory.name}.",
                f"Use --tp {one_of(allowed[:10])}.",
            )
    if not inventory.is_opaque and pp > inventory.layers:
        raise InputError(
            f"--pp {pp} is more than the {inventory.layers} layers of {inventory.name}.",
            f"Use --pp 1 to {inventory.layers}.",
        )
    return Placement(tp, pp, dp, inventory.layers)


def _kv_heads(inventory: Inventory) -> Iterable[int]:
    parts = [part for group in inventory.groups for cache in group.caches for part in cache.parts]
    segments = [segment for _, dimension in parts for segment in dimension]
    return sorted({length for segment in segments for axis, length in segment if axis == "kv_heads"})
