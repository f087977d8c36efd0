"""What PyTorch's allocator adds to a loaded model: segments in steps of 2 MiB, whose ends stay unused."""

from __future__ import annotations

from llmcalc.formula import ceil_div
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Group, Inventory, Tensor
from llmcalc.placement import Placement, rank_stored
from llmcalc.units import MIB

LARGE, STEP, KEPT = 10 * MIB, 2 * MIB, MIB
"""A tensor of at least `LARGE` has a segment of its own, a multiple of `STEP`; what is left of it goes to
others if it is more than `KEPT`. [B]"""

MX_SCALES = ("e8m0", "uint8")
"""Dtypes of the scales of MXFP4, a byte for 32 elements."""

FUSED = {
    "query": "qkv", "key": "qkv", "value": "qkv", "gate": "gate_up", "up": "gate_up",
    "expert_gate": "expert_gate_up", "expert_up": "expert_gate_up", "shared_gate": "shared_gate_up",
    "shared_up": "shared_gate_up", "delta_qkv": "delta_qkvz", "delta_gate": "delta_qkvz",
    "q_a": "qkv_a", "kv_a": "qkv_a",
}  # fmt: skip
"""Matrices that vLLM keeps as one tensor, by role."""


def unused_end(size: int) -> int:
    """Bytes behind a tensor that PyTorch counts as taken. [B]

    Examples
    --------
    Gate and up of Qwen2.5-7B are 259 MiB and take 260; its output, of 24.5 MiB, leaves 1.5 to others:

    >>> unused_end(259 * MIB) // 1024, unused_end(49 * MIB // 2)
    (1024, 0)

    References
    ----------
    PyTorch, c10/cuda/CUDACachingAllocator.cpp (``get_allocation_size``, ``should_split``).
    """
    left = -size % STEP
    return left if size >= LARGE and left <= KEPT else 0


def unused_ends(inventory: Inventory, placement: Placement, precision: Precision, stage: int) -> int:
    """The same for all large tensors of a stage, with those that vLLM fuses as one. [B]

    Examples
    --------
    Qwen2.5-7B, whose logs say 57 MiB more than its parameters and rotary tables:

    >>> from llmcalc import vram
    >>> [part.amounts[0] // MIB for part in vram("qwen2.5-7b", engine="vllm")["weights"].items
    ...  if part.name == "ends of segments"]
    [57]
    """
    return sum(
        placement.stored(group, stage) * _ends_of(group, inventory, placement.tp, precision)
        for group in inventory.groups
        if placement.stored(group, stage)
    )


def is_repacked(tensor: Tensor) -> bool:
    """Whether it is of MXFP4 experts, whose padded copies are whole steps."""
    return tensor.role.startswith("expert_") and any(part.dtype in MX_SCALES for part in tensor.stored)


def _ends_of(group: Group, inventory: Inventory, tp: int, precision: Precision) -> int:
    sizes: dict[tuple[str, str, str], int] = {}
    for tensor in group.tensors:
        if tensor.tag not in inventory.loaded or is_repacked(tensor):
            continue
        for part, number in zip(tensor.stored or (tensor,), rank_stored(tensor, tp), strict=True):
            key = FUSED.get(tensor.role, tensor.role), part.part, part.dtype or ""
            sizes[key] = sizes.get(key, 0) + int(ceil_div(number * precision.bits(part.dtype or ""), 8))
    return sum(map(unused_end, sizes.values()))
