"""Folds of an inventory into the items of an inference estimate.

Weights fold over tensors, the KV cache and the state over caches. Every fold returns items with one
amount for each rank class; their peak is found by `llmcalc.estimate.find_peak`.
"""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError
from llmcalc.estimate import Item, add_up, worst_grade
from llmcalc.formula import Quantity, ceil_div, smaller, where
from llmcalc.hardware import Placement, rank_numel, rank_width
from llmcalc.memory.inference import (
    cache_rows_bytes,
    conv_state_bytes,
    kv_cache_bytes,
    mla_cache_bytes,
    overhead_bytes,
    recurrent_state_bytes,
    weight_bytes,
    window_cache_bytes,
)
from llmcalc.model.inventory import Cache, Inventory
from llmcalc.precision import Format
from llmcalc.units import GIB

RUNTIME_LOW, RUNTIME, RUNTIME_HIGH = GIB // 2, GIB, GIB * 3 // 2
"""What a process takes besides the model where no engine is named: context, workspaces, buffers."""


STATE_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of one element of a recurrent state. [B]"""


class Precision:
    """The formats of one estimate: of weights (as bits), of keys, of values and of model-dtype states."""

    __slots__ = ("grade", "key", "label", "model", "value", "weight_bits")

    def __init__(
        self, weight_bits: Any, label: str, grade: str, model: Format, key: Format, value: Format
    ) -> None:
        self.weight_bits, self.label, self.grade = weight_bits, label, grade
        self.model, self.key, self.value = model, key, value


def rank_parameters(inventory: Inventory, placement: Placement) -> list[int]:
    """Parameters of the main model on one rank of each stage; a tied head on a stage of its own is a copy."""
    held = []
    for stage in range(placement.pp):
        total = 0
        for group in inventory.groups:
            count = placement.stored(group, stage)
            if count:
                total += count * sum(rank_numel(t, placement.tp) for t in group.tensors if t.tag == "main")
        held.append(total)
    if placement.pp > 1 and any(
        op.role == "embedding" for g in inventory if g.place == "head" for op in g.ops
    ):
        table = next(t for g in inventory for t in g.tensors if t.role == "embedding")
        held[-1] += rank_numel(table, placement.tp)
    return held


def weights_item(inventory: Inventory, placement: Placement, precision: Precision) -> Item:
    """Weights on each rank."""
    held = rank_parameters(inventory, placement)
    bits = precision.weight_bits
    worst = max(held)
    return Item(
        "weights",
        [weight_bytes(number, bits) for number in held],
        grade=worst_grade([precision.grade, inventory.grade]),
        formula="weight_bytes",
        inputs={"parameters": worst, "bits": bits},
        source="Transformer Math 101, 2023",
        note=f"{worst:,} x {float(bits) / 8:g} B",
    )


def kv_item(
    inventory: Inventory, placement: Placement, precision: Precision, tokens: Quantity, sequences: Quantity
) -> Item:
    """The KV cache on each rank, one part for each kind of cache."""
    parts = []
    for kind, members in _by_kind(inventory, state=False).items():
        parts.append(_cache_part(kind, members, placement, precision, tokens, sequences))
    doubtful = parts and any(key != "context" for key in inventory.unproven)
    grade = "assumed" if doubtful else inventory.grade
    note = parts[0].note if len(parts) == 1 else ", ".join(part.name for part in parts)
    if not parts:
        return Item("kv_cache", [0] * placement.pp, note="no attention to remember", formula="sum of caches")
    return Item(
        "kv_cache",
        [add_up([part.amounts[stage] for part in parts]) for stage in range(placement.pp)],
        phases=("prefill", "decode"),
        grade=grade,
        formula=parts[0].formula if len(parts) == 1 else "sum of caches",
        inputs=parts[0].inputs if len(parts) == 1 else {"tokens": tokens, "sequences": sequences},
        source=parts[0].source if len(parts) == 1 else "the model's layers",
        note=note,
        items=parts,
    )


def state_item(inventory: Inventory, placement: Placement, precision: Precision, sequences: Quantity) -> Item:
    """Recurrent and convolution states on each rank."""
    parts = [
        _cache_part(kind, members, placement, precision, 1, sequences)
        for kind, members in _by_kind(inventory, state=True).items()
    ]
    return Item(
        "state",
        [add_up([part.amounts[stage] for part in parts]) for stage in range(placement.pp)],
        phases=("prefill", "decode"),
        grade=inventory.grade if parts else "exact",
        formula="sum of states",
        inputs={"sequences": sequences},
        note=", ".join(part.name for part in parts) or "no recurrent layers",
        items=parts,
    )


Members = list[tuple[Any, Cache]]


def _by_kind(inventory: Inventory, state: bool) -> dict[str, Members]:
    kinds: dict[str, Members] = {}
    for group in inventory.groups:
        for cache in group.caches:
            if cache.is_state == state:
                kinds.setdefault(_label(cache), []).append((group, cache))
    return kinds


def _label(cache: Cache) -> str:
    if cache.kind in ("window", "chunk"):
        return f"{cache.kind} {cache.positions:,}"
    return {
        "full": "full attention",
        "latent": "latent",
        "recurrent": "recurrence",
        "conv": "convolution",
    }.get(cache.kind, cache.kind)


def _cache_part(
    kind: str,
    members: Members,
    placement: Placement,
    precision: Precision,
    tokens: Quantity,
    sequences: Quantity,
) -> Item:
    """All caches of one kind, on each rank; equal ones by one call of their formula."""
    held: list[list[Quantity]] = [[] for _ in range(placement.pp)]
    made: tuple[str, dict[str, Any], str] = ("", {}, "")
    for group, cache in members:
        for stage in range(placement.pp):
            count = placement.count(group, stage)
            if count:
                made, amount = _cache_bytes(cache, count, placement.tp, precision, tokens, sequences)
                held[stage].append(amount)
    layers = sum(len(group.layers) for group, _ in members)
    on_rank = max(sum(placement.count(g, stage) for g, _ in members) for stage in range(placement.pp))
    return Item(
        f"{kind} ({layers} layer{'s' if layers != 1 else ''})",
        [add_up(amounts) for amounts in held],
        phases=("prefill", "decode"),
        formula=made[0],
        inputs=made[1],
        source=made[2],
        note=_note(members[0][1], on_rank, placement.tp),
    )


def _note(cache: Cache, layers: int, tp: int) -> str:
    """What one rank keeps of a cache, in a few words."""
    widths = [rank_width(cache, part, tp) for part in range(len(cache.parts))]
    axes = dict(cache.parts[0][1][0])
    many = f"{layers} layer{'s' if layers != 1 else ''}"
    if cache.kind == "conv":
        return f"{many} x {widths[0]:,} x {cache.positions}"
    if not {"kv_heads", "state_heads"} & set(axes):
        return f"{many} x ({' + '.join(map(str, widths))})"
    heads = ceil_div(axes.get("kv_heads", axes.get("state_heads", 1)), tp)
    name = "KV head" if "kv_heads" in axes else "head"
    rest = [str(length) for axis, length in axes.items() if axis not in ("kv_heads", "state_heads")]
    text = f"{many} x {heads} {name}{'s' if heads != 1 else ''} x {' x '.join(rest)}"
    return f"{text}, {cache.kind} {cache.positions:,}" if cache.kind in ("window", "chunk") else text


def _cache_bytes(
    cache: Cache, count: int, tp: int, precision: Precision, tokens: Quantity, sequences: Quantity
) -> tuple[tuple[str, dict[str, Any], str], Quantity]:
    """Bytes of `count` equal layers, with the formula, its inputs and its source.

    Any cache is so many bytes a position; the kinds that have an equation of their own in the
    literature are computed by it.
    """
    if cache.stream != "decoder":
        raise InputError(
            f"The model keeps a cache of its {cache.stream} tokens, whose number is not known.",
            "Models with such a cache can't be estimated yet.",
        )
    widths = [rank_width(cache, part, tp) for part in range(len(cache.parts))]
    common: dict[str, Any] = {"layers": count, "sequences": sequences}
    if cache.kind == "recurrent":
        width = STATE_BYTES[cache.precision]
        inputs = {**common, "state_elements": widths[0], "bytes_per_element": width}
        return ("recurrent_state_bytes", inputs, "Yang et al. 2024"), recurrent_state_bytes(**inputs)
    if cache.kind == "conv":
        inputs = {
            **common,
            "channels": widths[0],
            "kernel": (cache.positions or 0) + 1,
            "bytes_per_element": precision.model.bytes_per_element,
        }
        return ("conv_state_bytes", inputs, "Gu and Dao 2023"), conv_state_bytes(**inputs)
    plain = precision.key.elements == 1 and precision.key.name == precision.value.name
    common["bytes_per_element"] = precision.key.block_bytes
    if plain and cache.kind == "latent":
        inputs = {**common, "kv_lora_rank": widths[0], "qk_rope_head_dim": widths[1], "tokens": tokens}
        return ("mla_cache_bytes", inputs, "DeepSeek-V2 2024, section 2.1.2"), mla_cache_bytes(**inputs)
    axes = dict(cache.parts[0][1][0])
    if plain and "kv_heads" in axes and len(widths) == 2 and widths[0] == widths[1]:
        heads = ceil_div(axes["kv_heads"], tp)
        inputs = {**common, "kv_heads": heads, "head_dim": widths[0] // heads, "tokens": tokens}
        if cache.positions is None:
            return ("kv_cache_bytes", inputs, "Ainslie et al. 2023, section 2.2"), kv_cache_bytes(**inputs)
        inputs["window"] = cache.positions
        return (
            ("window_cache_bytes", inputs, "Beltagy et al. 2020, section 3.1"),
            window_cache_bytes(**inputs),
        )
    # Keys in the first part, all else in the format of values; block formats round each row up.
    formats = [precision.key, *[precision.value] * (len(widths) - 1)]
    row = sum(ceil_div(w * f.block_bytes, f.elements) for w, f in zip(widths, formats, strict=True))
    positions = tokens if cache.positions is None else smaller(tokens, cache.positions)
    inputs = {"layers": count, "row_bytes": row, "positions": positions, "sequences": sequences}
    return ("cache_rows_bytes", inputs, "ggml block layouts"), cache_rows_bytes(**inputs)


class Profile:
    """How the caches of one stage grow with the length of one sequence.

    Attributes
    ----------
    row : int
        Bytes that each further token costs, whatever the length. [B]
    limited : list of (int, int)
        Windows: positions kept at most, and bytes of one position. [tokens], [B]
    state : int
        Bytes that a sequence costs at any length. [B]
    """

    __slots__ = ("limited", "row", "state")

    def __init__(self) -> None:
        self.row, self.state = 0, 0
        self.limited: list[tuple[int, int]] = []

    def bytes(self, tokens: Quantity) -> Quantity:
        """Bytes of one sequence of `tokens`. [B]"""
        total = self.row * tokens + self.state
        for limit, row in self.limited:
            total = total + row * smaller(tokens, limit)
        return total

    def bytes_per_token(self, tokens: Quantity) -> Quantity:
        """Bytes that one more token costs at this length. [B]"""
        total: Quantity = self.row
        for limit, row in self.limited:
            total = total + row * where(tokens < limit, 1, 0)
        return total


def profiles(inventory: Inventory, placement: Placement, precision: Precision) -> list[Profile]:
    """The cache profile of each pipeline stage, on one tensor rank."""
    made = [Profile() for _ in range(placement.pp)]
    for group in inventory.groups:
        for cache in group.caches:
            for stage, profile in enumerate(made):
                count = placement.count(group, stage)
                if not count:
                    continue
                one = int(_cache_bytes(cache, count, placement.tp, precision, 1, 1)[1])
                if cache.is_state:
                    profile.state += one
                elif cache.positions is None:
                    profile.row += one
                else:
                    profile.limited.append((cache.positions, one))
    return made


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
    inventory: Inventory, placement: Placement, precision: Precision, tokens: Quantity, sequences: Quantity
) -> list[Item]:
    """The items of the architecture's minimum plus an assumed runtime, in the contract's order."""
    nothing = [0] * placement.pp
    return [
        weights_item(inventory, placement, precision),
        kv_item(inventory, placement, precision, tokens, sequences),
        state_item(inventory, placement, precision, sequences),
        Item(
            "activations",
            nothing,
            phases=("prefill",),
            formula="none",
            note="an engine's: not in the minimum",
        ),
        Item(
            "cuda_graphs", nothing, phases=("decode",), formula="none", note="an engine's: not in the minimum"
        ),
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
