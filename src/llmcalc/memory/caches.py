"""Folds over caches: the KV cache, the state, and how both grow.

Every fold returns an item with one amount for each rank class.
"""

from __future__ import annotations

from typing import Any

from llmcalc.estimate import Item, add_up
from llmcalc.formula import Quantity, ceil_div, smaller, where
from llmcalc.memory.inference import (
    cache_rows_bytes,
    conv_state_bytes,
    kv_cache_bytes,
    mla_cache_bytes,
    recurrent_state_bytes,
    residual_cache_bytes,
    window_cache_bytes,
)
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Cache, Inventory
from llmcalc.placement import Placement, rank_width
from llmcalc.precision import Format

STATE_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of one element of a recurrent state. [B]"""


def kv_item(inventory: Inventory, placement: Placement, precision: Precision, workload: Workload) -> Item:
    """The KV cache on each rank, one part for each kind of cache."""
    parts = []
    for kind, members in _by_kind(inventory, workload, state=False).items():
        parts.append(_cache_part(kind, members, placement, precision, workload))
    shared = {"tokens": workload.streams["decoder"], "sequences": workload.sequences}
    grade = "assumed" if parts and workload.assumed else _grade(inventory)
    note = parts[0].note if len(parts) == 1 else ", ".join(part.name for part in parts)
    if not parts:
        return Item("kv_cache", [0] * placement.pp, note="no attention to remember", formula="sum of caches")
    return Item(
        "kv_cache",
        [add_up([part.amounts[stage] for part in parts]) for stage in range(placement.pp)],
        phases=("prefill", "decode"),
        grade=grade,
        formula=parts[0].formula if len(parts) == 1 else "sum of caches",
        inputs=parts[0].inputs if len(parts) == 1 else shared,
        source=parts[0].source if len(parts) == 1 else "the model's layers",
        note=note,
        items=parts,
    )


def state_item(inventory: Inventory, placement: Placement, precision: Precision, workload: Workload) -> Item:
    """Recurrent and convolution states on each rank."""
    parts = [
        _cache_part(kind, members, placement, precision, workload)
        for kind, members in _by_kind(inventory, workload, state=True).items()
    ]
    return Item(
        "state",
        [add_up([part.amounts[stage] for part in parts]) for stage in range(placement.pp)],
        phases=("prefill", "decode"),
        grade=_grade(inventory) if parts else "exact",
        formula="sum of states",
        inputs={"sequences": workload.sequences},
        note=", ".join(part.name for part in parts) or "no recurrent layers",
        items=parts,
    )


def _grade(inventory: Inventory) -> str:
    """How sure it is which layers remember what."""
    doubtful = any(key != "context" for key in inventory.unproven)
    return "assumed" if doubtful else inventory.grade


Members = list[tuple[Any, Cache]]


def _by_kind(inventory: Inventory, workload: Workload, state: bool) -> dict[str, Members]:
    """What the engine keeps, by kind, with the groups that keep it."""
    kinds: dict[str, Members] = {}
    for group in inventory.groups:
        for need in group.caches:
            if need.is_state == state:
                cache = workload.layout(need)
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
    workload: Workload,
) -> Item:
    """All caches of one kind, on each rank; equal ones by one call of their formula."""
    held: list[list[Quantity]] = [[] for _ in range(placement.pp)]
    made: tuple[str, dict[str, Any], str] = ("", {}, "")
    for group, cache in members:
        for stage in range(placement.pp):
            count = placement.count(group, stage)
            if count:
                made, amount = _cache_bytes(cache, count, placement.tp, precision, workload)
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
    cache: Cache, count: int, tp: int, precision: Precision, workload: Workload
) -> tuple[tuple[str, dict[str, Any], str], Quantity]:
    """Bytes of `count` equal layers, with the formula, its inputs and its source.

    Any cache is so many bytes a position; the kinds that have an equation of their own in the
    literature are computed by it.
    """
    sequences = workload.sequences
    widths = [rank_width(cache, part, tp) for part in range(len(cache.parts))]
    common: dict[str, Any] = {"layers": count, "sequences": sequences}
    if cache.kind == "recurrent":
        inputs = {**common, "state_elements": widths[0], "bytes_per_element": _state_bytes(cache, precision)}
        return ("recurrent_state_bytes", inputs, "Yang et al. 2024"), recurrent_state_bytes(**inputs)
    if cache.kind == "conv":
        inputs = {
            **common,
            "channels": widths[0],
            "kernel": (cache.positions or 0) + 1,
            "bytes_per_element": _state_bytes(cache, precision),
        }
        return ("conv_state_bytes", inputs, "Gu and Dao 2023"), conv_state_bytes(**inputs)
    tokens = workload.tokens(cache)
    if cache.rate > 1:
        tokens = tokens // cache.rate
    formats = [_format(cache, part, precision) for part in range(len(widths))]
    plain = len({kept.name for kept in formats}) == 1 and _is_plain(formats[0])
    common["bytes_per_element"] = formats[0].block_bytes
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
    row, recent, residual = _row(cache, tp, precision)
    positions = tokens if cache.positions is None else smaller(tokens, cache.positions)
    inputs = {"layers": count, "row_bytes": row, "positions": positions, "sequences": sequences}
    if not residual:
        return ("cache_rows_bytes", inputs, "ggml block layouts"), cache_rows_bytes(**inputs)
    inputs = {
        "layers": count, "row_bytes": row, "recent_bytes": recent, "tokens": positions, "recent": residual,
        "sequences": sequences,
    }  # fmt: skip
    return ("residual_cache_bytes", inputs, "Liu et al. 2024, section 3"), residual_cache_bytes(**inputs)


def _is_plain(kept: Format) -> bool:
    """Whether a format is so many bytes an element and nothing else."""
    return kept.elements == 1 and not kept.head_bytes and not kept.residual


def _format(cache: Cache, part: int, precision: Precision) -> Format:
    """The format of one part of a cache: of values by their name; a latent and its rotary key are keys."""
    return precision.value if cache.parts[part][0] == "v" else precision.key


def _row(cache: Cache, tp: int, precision: Precision) -> tuple[int, int, int]:
    """Bytes of one position, those of one of the newest positions, and how many those are.

    Block formats round each row up, and scales come once for each head, or for a latent as a whole.
    """
    row = recent = residual = 0
    for part in range(len(cache.parts)):
        kept, width = _format(cache, part, precision), rank_width(cache, part, tp)
        heads = dict(cache.parts[part][1][0]).get("kv_heads", 1)
        own = ceil_div(width * kept.block_bytes, kept.elements) + ceil_div(heads, tp) * kept.head_bytes
        row += own
        recent += 2 * width if kept.residual else own
        residual = max(residual, kept.residual)
    return row, recent, residual


def _state_bytes(cache: Cache, precision: Precision) -> Any:
    """Bytes of one element of a recurrent state."""
    return precision.model.bytes_per_element if cache.precision == "model" else STATE_BYTES[cache.precision]


class Profile:
    """How the caches of one stage grow with the length of one sequence.

    Attributes
    ----------
    row : int
        Bytes that each further token costs, whatever the length. [B]
    limited : list of (int, int)
        Windows: positions kept at most, and bytes of one position. [tokens], [B]
    stepped : list of (int, int, int or None)
        Compressed caches: tokens that share one entry, bytes of an entry, entries kept at most.
        [tokens], [B], [-]
    state : int
        Bytes that a sequence costs at any length. [B]
    """

    __slots__ = ("limited", "row", "state", "stepped")

    def __init__(self) -> None:
        self.row, self.state = 0, 0
        self.limited: list[tuple[int, int]] = []
        self.stepped: list[tuple[int, int, int | None]] = []

    def __add__(self, other: Profile) -> Profile:
        """The caches of two models of the same tokens."""
        made = Profile()
        made.row, made.state = self.row + other.row, self.state + other.state
        made.limited, made.stepped = self.limited + other.limited, self.stepped + other.stepped
        return made

    def bytes(self, tokens: Quantity) -> Quantity:
        """Bytes of one sequence of `tokens`. [B]"""
        total = self.row * tokens + self.state
        for limit, row in self.limited:
            total = total + row * smaller(tokens, limit)
        return total + self._entries(tokens)

    def _entries(self, tokens: Quantity) -> Quantity:
        """Bytes of the entries that several tokens share. [B]"""
        total: Quantity = 0
        for rate, row, most in self.stepped:
            held = tokens // rate
            total = total + row * (held if most is None else smaller(held, most))
        return total

    def held(self, before: Quantity, length: Quantity, after: Quantity) -> Quantity:
        """Bytes of a stretch of one sequence, by the tokens before and after it; states not counted. [B]

        A window reaches back from the end, so it holds of a stretch what the tokens after it leave.
        """
        total: Quantity = self.row * length
        for limit, row in self.limited:
            total = total + row * _reached(length, limit - after)
        for rate, row, most in self.stepped:
            start, end = before // rate, (before + length) // rate
            rest = None if most is None else most - ((before + length + after) // rate - end)
            total = total + row * (end - start if rest is None else _reached(end - start, rest))
        return total

    def bytes_per_token(self, tokens: Quantity) -> Quantity:
        """Bytes that one more token costs at this length. [B]"""
        total: Quantity = self.row
        for limit, row in self.limited:
            total = total + row * where(tokens < limit, 1, 0)
        return total + self._entries(tokens + 1) - self._entries(tokens)


def _reached(length: Quantity, rest: Quantity) -> Quantity:
    """What of a stretch lies within the rest of a window. [tokens]"""
    inside = smaller(length, rest)
    return where(inside > 0, inside, 0)


def profiles(
    inventory: Inventory, placement: Placement, precision: Precision, workload: Workload
) -> list[Profile]:
    """How the caches of each pipeline stage grow with the decoder's tokens, on one tensor rank.

    An encoder that is assumed to read as much as the decoder grows with it.
    """
    made = [Profile() for _ in range(placement.pp)]
    growing = ("decoder", "encoder") if workload.assumed else ("decoder",)
    one = Workload({**workload.streams, **dict.fromkeys(growing, 1)}, 1, workload.layout)
    for group in inventory.groups:
        for need in group.caches:
            cache = workload.layout(need)
            for stage, profile in enumerate(made):
                count = placement.count(group, stage)
                if not count:
                    continue
                row, recent, residual = _row(cache, placement.tp, precision)
                if cache.rate > 1:
                    profile.stepped.append((cache.rate, count * row, cache.positions))
                    if residual:
                        profile.stepped.append((cache.rate, count * (recent - row), residual))
                    continue
                amount = int(_cache_bytes(cache, count, placement.tp, precision, one)[1])
                if cache.is_state or cache.stream not in growing:
                    profile.state += amount
                    continue
                if residual:  # the newest cost more, up to their number
                    amount = count * row
                    kept = residual if cache.positions is None else min(residual, cache.positions)
                    profile.limited.append((kept, count * (recent - row)))
                if cache.positions is None:
                    profile.row += amount
                else:
                    profile.limited.append((cache.positions, amount))
    return made
