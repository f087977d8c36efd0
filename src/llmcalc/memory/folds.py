"""The items of an inference estimate, in the contract's order.

Weights fold over tensors; caches and states are in `llmcalc.memory.caches`.
"""

from __future__ import annotations

from typing import Any

from llmcalc.estimate import Item, add_up, worst_grade
from llmcalc.formula import Quantity, ceil_div, smaller
from llmcalc.memory.caches import kv_item, state_item
from llmcalc.memory.inference import overhead_bytes, weight_bytes
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory, Tensor
from llmcalc.placement import Placement, rank_numel, rank_stored
from llmcalc.units import GIB, whole_or_fraction

RUNTIME_LOW, RUNTIME, RUNTIME_HIGH = GIB // 2, GIB, GIB * 3 // 2
"""What a process takes besides the model where no engine is named: context, workspaces, buffers."""


class Stored:
    """What one rank holds in one format.

    Attributes
    ----------
    parameters : int
        Elements that it stands for; 0 for scales. [-]
    words : dict
        Stored elements by their dtype ("" for the model's): packed words, scales. [-]
    parts : dict
        Scales, zero points and tables by their name and dtype. [-]
    """

    __slots__ = ("parameters", "parts", "words")

    def __init__(self) -> None:
        self.parameters = 0
        self.words: dict[str, int] = {}
        self.parts: dict[tuple[str, str], int] = {}

    def add(self, dtype: str | None, number: int, part: str = "") -> None:
        """Add stored elements of a dtype, those of a scale under its name."""
        own = dtype or ""
        self.words[own] = self.words.get(own, 0) + number
        if part:
            self.parts[part, own] = self.parts.get((part, own), 0) + number


SCALES = "scales"
"""How the part of scales, zero points and tables is called."""


def rank_storage(inventory: Inventory, placement: Placement) -> list[dict[str, Stored]]:
    """What a rank of each stage holds by format ("" for the model's dtype, scales apart).

    A tied head on a stage of its own is a copy.
    """
    held: list[dict[str, Stored]] = []
    for stage in range(placement.pp):
        by_format: dict[str, Stored] = {}
        for group in inventory.groups:
            count = placement.stored(group, stage)
            if count:
                for tensor in group.tensors:
                    if tensor.tag in inventory.loaded:
                        _hold(by_format, tensor, count, placement.tp)
        held.append(by_format)
    if placement.pp > 1 and any(
        op.role == "embedding" for g in inventory if g.place == "head" for op in g.ops
    ):
        table = next(t for g in inventory for t in g.tensors if t.role == "embedding")
        _hold(held[-1], table, 1, placement.tp)
    return held


def _hold(by_format: dict[str, Stored], tensor: Tensor, count: int, tp: int) -> None:
    first = by_format.setdefault(tensor.dtype or "", Stored())
    first.parameters += count * rank_numel(tensor, tp)
    parts = zip(tensor.stored or (tensor,), rank_stored(tensor, tp), strict=True)
    for place, (part, number) in enumerate(parts):
        if place:
            by_format.setdefault(SCALES, Stored()).add(part.dtype, count * number, part.part)
        else:
            first.add(part.dtype, count * number)


def weights_item(inventory: Inventory, placement: Placement, precision: Precision) -> Item:
    """Weights on each rank: one part for each format, where the model mixes them."""
    held = rank_storage(inventory, placement)
    formats = dict.fromkeys(name for by_format in held for name in by_format)
    if precision.native is None:
        totals = [sum(kept.parameters for kept in by_format.values()) for by_format in held]
        return _weights_part("weights", totals, None, inventory, precision)
    parts = [
        _scales_part([by_format.get(SCALES, Stored()) for by_format in held], inventory, precision)
        if name == SCALES
        else _weights_part(
            name or precision.label,
            [by_format[name].parameters if name in by_format else 0 for by_format in held],
            [by_format[name].words if name in by_format else {} for by_format in held],
            inventory,
            precision,
        )
        for name in formats
    ]
    if len(parts) == 1:
        parts[0].name = "weights"
        return parts[0]
    amounts = [add_up([part.amounts[stage] for part in parts]) for stage in range(placement.pp)]
    return Item(
        "weights",
        amounts,
        grade=worst_grade(part.grade for part in parts),
        formula="sum of formats",
        source=precision.source,
        note=", ".join(part.note if part.name == SCALES else f"{part.note} {part.name}" for part in parts[:4])
        + (f" and {len(parts) - 4} more" if len(parts) > 4 else ""),
        items=parts,
    )


def _weights_part(
    name: str,
    parameters: list[int],
    words: list[dict[str, int]] | None,
    inventory: Inventory,
    precision: Precision,
) -> Item:
    """One format on each rank; without `words` every parameter has the bits that the user set."""
    worst = max(range(len(parameters)), key=lambda stage: parameters[stage])
    if words is None:
        amounts = [weight_bytes(number, precision.weight_bits) for number in parameters]
        bits = precision.weight_bits
    else:
        amounts = [
            sum(weight_bytes(number, precision.bits(own)) for own, number in kept.items()) for kept in words
        ]
        bits = whole_or_fraction(8 * amounts[worst], parameters[worst]) if parameters[worst] else 0
    number = parameters[worst]
    return Item(
        name,
        amounts,
        grade=worst_grade([precision.grade, inventory.grade]),
        formula="weight_bytes" if number else "sum of tensors",
        inputs={"parameters": number, "bits": bits} if number else {},
        source=precision.source,
        note=f"{number:,} x {float(bits) / 8:g} B" if number else "scales and zero points",
    )


def _scales_part(held: list[Stored], inventory: Inventory, precision: Precision) -> Item:
    """Scales, zero points and tables on each rank, one line for each kind."""
    grade = worst_grade([precision.grade, inventory.grade])
    lines = []
    for part, own in dict.fromkeys(key for kept in held for key in kept.parts):
        numbers = [kept.parts.get((part, own), 0) for kept in held]
        bits, most = precision.bits(own), max(numbers)
        lines.append(
            Item(
                f"{part} ({own or precision.label})",
                [weight_bytes(number, bits) for number in numbers],
                grade=grade,
                formula="weight_bytes",
                inputs={"parameters": most, "bits": bits},
                source=precision.source,
                note=f"{most:,} x {float(bits) / 8:g} B",
            )
        )
    return Item(
        SCALES,
        [add_up([line.amounts[stage] for line in lines]) for stage in range(len(held))],
        grade=grade,
        formula="sum of tensors",
        source=precision.source,
        note="scales and zero points",
        items=lines,
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
