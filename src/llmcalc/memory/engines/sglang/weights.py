"""What the free memory falls by while a rank of SGLang loads: tensors as PyTorch's allocator holds them.

SGLang prints a difference of the driver's free memory, so it contains what the allocator rounds up:
tensors of 10 MiB and more get segments of their own, to 2 MiB; smaller ones share segments of 20 MiB, and
those up to 1 MiB segments of 2 MiB.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Any

from llmcalc.engine_options.sglang_era import SglangEra
from llmcalc.engine_options.vllm_era import era_of
from llmcalc.estimate import Item, add_up
from llmcalc.memory.engines.sglang import SOURCE
from llmcalc.memory.engines.sglang.spreads import FEW, PARTS, SPREADS, load_kind
from llmcalc.memory.engines.vllm.allocator import FUSED, LARGE, STEP
from llmcalc.memory.engines.vllm.weights import loaded_item, with_shares
from llmcalc.memory.inference import weight_bytes
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Group, Inventory
from llmcalc.placement import Placement, rank_numel, rank_stored
from llmcalc.units import MIB

ROUND, SMALL, SHARED = 512, MIB, 20 * MIB
"""PyTorch's caching allocator: sizes are multiples of this, up to here small; segments of several. [B]"""

COMMON = ("checkpoint", "expert padding", "vocabulary padding", "rotary tables")
"""What SGLang's layers load as those of vLLM do from which they come."""

LAYERS = era_of("0.6")
"""The release of vLLM that they come from; its later tables and copies are vLLM's own."""


def segments(sizes: Iterable[int]) -> int:
    """Bytes that PyTorch's allocator takes of the driver for tensors of these sizes, in this order.

    Parameters
    ----------
    sizes : iterable of int
        Bytes of each tensor. [B]

    Returns
    -------
    int
        Bytes of all segments. [B]

    Examples
    --------
    A matrix of 31.5 MiB takes 32; two of 8 MiB share a segment of 20:

    >>> segments([33_030_144]) // 2**20, segments([8 << 20, 8 << 20]) // 2**20
    (32, 20)

    References
    ----------
    PyTorch 2, c10/cuda/CUDACachingAllocator.cpp: kMinBlockSize, kSmallSize, kMinLargeAlloc, kLargeBuffer.
    """
    taken, free = 0, {STEP: [0], SHARED: [0]}
    for own in sizes:
        rounded = -(-own // ROUND) * ROUND
        if rounded >= LARGE:
            taken += -(-rounded // STEP) * STEP
            continue
        segment = STEP if rounded <= SMALL else SHARED
        gaps = free[segment]  # sorted: the smallest gap that holds it is taken
        place = bisect_left(gaps, rounded)
        if place == len(gaps):
            gap, taken = segment, taken + segment
        else:
            gap = gaps.pop(place)
        insort(gaps, gap - rounded)
    return taken


def delta_item(
    inventory: Inventory, placement: Placement, precision: Precision, era: SglangEra
) -> Item:  # fmt: skip
    """What "Load weight end ... mem usage" prints: weights, tables, copies, and the allocator's rounding.

    Latent attention multiplies with two re-laid 16-bit copies of the matrix that expands latents.
    """
    loaded = loaded_item(inventory, placement, precision, LAYERS)
    shared = with_shares(inventory, placement)
    stages = range(placement.pp)
    rounding = [_rounding(shared, placement, precision, stage) for stage in stages]
    copies = [_copied(shared, placement, stage) for stage in stages]
    parts = [part for part in loaded.items if part.name in COMMON]
    for name, amounts, note in (
        ("latent copies", copies, "the expansion of latents, in 16 bit, re-laid"),
        ("allocator", rounding, "segments of 2 and 20 MiB"),
    ):
        if any(amounts):
            parts.append(
                Item(name, amounts, grade="derived", formula="sum of tensors", source=SOURCE, note=note)
            )
    whole = [int(add_up([part.amounts[stage] for part in parts])) for stage in stages]
    kind = load_kind(era)
    low, high = SPREADS[kind]
    return Item(
        "weights", whole, low=[n - n * low // PARTS for n in whole],
        high=[n + n * high // PARTS for n in whole],
        grade="assumed" if kind in FEW else "calibrated", formula="sum of parts", inputs={"range": kind},
        source=loaded.source, note=loaded.note, items=parts,
    )  # fmt: skip


def _copied(inventory: Inventory, placement: Placement, stage: int) -> int:
    """Bytes of the copies of the expansion of latents on a rank. [B]"""
    latent = [g for g in inventory.groups if any(cache.kind == "latent" for cache in g.caches)]
    return sum(
        2 * placement.count(group, stage) * rank_numel(tensor, placement.tp)
        for group in latent
        for tensor in group.tensors
        if tensor.role == "kv_b" and tensor.tag in inventory.loaded and tensor.part in ("weight", "")
    )


def _rounding(inventory: Inventory, placement: Placement, precision: Precision, stage: int) -> int:
    """What the allocator's segments hold beyond the tensors of a stage. [B]"""
    if precision.native is None:
        return 0  # so many bits each are no tensors
    sizes = [
        own
        for group in inventory.groups
        for own in _sizes(group, inventory.loaded, placement.tp, precision)
        * placement.stored(group, stage)
    ]  # fmt: skip
    return segments(sizes) - sum(sizes)


def _sizes(group: Group, loaded: tuple[str, ...], tp: int, precision: Precision) -> list[int]:
    """Bytes of the tensors of one layer, fused as they are loaded. [B]"""
    fused: dict[tuple[str, str], Any] = {}
    for tensor in group.tensors:
        if tensor.tag in loaded:
            parts = zip(tensor.stored or (tensor,), rank_stored(tensor, tp), strict=True)
            for part, number in parts:
                key = (FUSED.get(tensor.role, tensor.role), part.part or tensor.part)
                fused[key] = fused.get(key, 0) + weight_bytes(number, precision.bits(part.dtype or ""))
    return [int(own) for own in fused.values()]
