"""The items of an inference estimate, in the contract's order.

Weights fold over tensors; caches and states are in `llmcalc.memory.caches`.
"""

from __future__ import annotations

from typing import Any

from llmcalc.estimate import Item, add_up, worst_grade
from llmcalc.formula import Quantity, ceil_div, smaller
from llmcalc.hardware import Placement, rank_numel
from llmcalc.memory.caches import kv_item, state_item
from llmcalc.memory.inference import overhead_bytes, weight_bytes
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.units import GIB

RUNTIME_LOW, RUNTIME, RUNTIME_HIGH = GIB // 2, GIB, GIB * 3 // 2
"""What a process takes besides the model where no engine is named: context, workspaces, buffers."""


LOADED = ("main", "scale")
"""Tags that an engine loads by default; prediction modules and buffers stay on disk."""


def rank_parameters(inventory: Inventory, placement: Placement) -> list[dict[str, int]]:
    """Loaded elements on one rank of each stage, by own dtype ("" for the model's).

    A tied head on a stage of its own is a copy.
    """
    held: list[dict[str, int]] = []
    for stage in range(placement.pp):
        by_dtype: dict[str, int] = {}
        for group in inventory.groups:
            count = placement.stored(group, stage)
            if count:
                for tensor in group.tensors:
                    if tensor.tag in LOADED:
                        own = tensor.dtype or ""
                        by_dtype[own] = by_dtype.get(own, 0) + count * rank_numel(tensor, placement.tp)
        held.append(by_dtype)
    if placement.pp > 1 and any(
        op.role == "embedding" for g in inventory if g.place == "head" for op in g.ops
    ):
        table = next(t for g in inventory for t in g.tensors if t.role == "embedding")
        own = table.dtype or ""
        held[-1][own] = held[-1].get(own, 0) + rank_numel(table, placement.tp)
    return held


def weights_item(inventory: Inventory, placement: Placement, precision: Precision) -> Item:
    """Weights on each rank: one part for each dtype, where the file mixes them."""
    held = rank_parameters(inventory, placement)
    dtypes = dict.fromkeys(own for by_dtype in held for own in by_dtype)
    if precision.native is None or len(dtypes) <= 1:
        totals = [sum(by_dtype.values()) for by_dtype in held]
        native = precision.native or {}
        return _weights_part(
            "weights", totals, native.get(next(iter(dtypes), ""), precision.weight_bits), inventory, precision
        )
    parts = [
        _weights_part(
            own or precision.label,
            [by_dtype.get(own, 0) for by_dtype in held],
            precision.native.get(own, precision.weight_bits),
            inventory,
            precision,
        )
        for own in dtypes
    ]
    amounts = [add_up([part.amounts[stage] for part in parts]) for stage in range(placement.pp)]
    return Item(
        "weights",
        amounts,
        formula="sum of dtypes",
        source="the weight file's header",
        note=", ".join(f"{part.note} {part.name}" for part in parts),
        items=parts,
    )


def _weights_part(name: str, held: list[int], bits: Any, inventory: Inventory, precision: Precision) -> Item:
    worst = max(held)
    return Item(
        name,
        [weight_bytes(number, bits) for number in held],
        grade=worst_grade([precision.grade, inventory.grade]),
        formula="weight_bytes",
        inputs={"parameters": worst, "bits": bits},
        source="Transformer Math 101, 2023",
        note=f"{worst:,} x {float(bits) / 8:g} B",
    )


def runtime_item(placement: Placement) -> Item:
    """What a process takes besides the model, where no engine is named."""
    many = placement.pp
    return Item(
        "runtime",
        [RUNTIME] * many,
        low=[RUNTIME_LOW] * many,
        high=[RUNTIME_HIGH] * many,
        grade="assumed",
        formula="constant",
        inputs={"bytes": RUNTIME},
        source="assumed: context, workspaces and buffers of a process without a named engine",
        note="context, workspaces: 0.5 to 1.5 GiB",
    )


def model_items(
    inventory: Inventory, placement: Placement, precision: Precision, workload: Workload
) -> list[Item]:
    """Weights, what the engine remembers and an assumed runtime, in the contract's order."""
    nothing = [0] * placement.pp
    return [
        weights_item(inventory, placement, precision),
        kv_item(inventory, placement, precision, workload),
        state_item(inventory, placement, precision, workload),
        Item("activations", nothing, phases=("prefill",), formula="none", note="an engine's: not counted"),
        Item("cuda_graphs", nothing, phases=("decode",), formula="none", note="an engine's: not counted"),
        runtime_item(placement),
    ]


def count_items(
    parameters: Quantity, bits: Any, overhead: tuple[int, int], low: Quantity, high: Quantity, shares: int = 1
) -> list[Item]:
    """The items of the rule of thumb N x M x 1.2 on each of `shares` equal GPUs.

    Parameters
    ----------
    parameters : int or ndarray
        Parameters. [-]
    bits : int or Fraction
        Bits of one parameter. [bit]
    overhead : tuple of int
        The factor, as numerator and denominator. [-]
    low, high : int or ndarray
        Range of what comes on top of the weights. [B]
    shares : int
        GPUs that share the model equally. [-]
    """
    weights = weight_bytes(ceil_div(parameters, shares), bits)
    numerator, denominator = overhead
    extra = overhead_bytes(weights, numerator, denominator)
    return [
        Item(
            "weights",
            [weights],
            formula="weight_bytes",
            inputs={"parameters": ceil_div(parameters, shares), "bits": bits},
            source="Transformer Math 101, 2023",
            note="parameters x bits / 8",
        ),
        Item(
            "overhead",
            [extra],
            low=[smaller(low, extra)],
            high=[extra + high - smaller(high, extra)],
            grade="assumed",
            formula="overhead_bytes",
            inputs={"weights": weights, "numerator": numerator, "denominator": denominator},
            source="Transformer Math 101, 2023",
            note=f"{100 * (numerator - denominator) / denominator:g} %: KV cache, activations, runtime",
        ),
    ]
