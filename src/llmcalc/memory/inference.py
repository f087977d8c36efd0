"""Inference memory: leaf formulas, and the folds of an inventory that use them.

Formulas first, folds after. Every fold returns items; their peak is found by
`llmcalc.estimate.find_peak`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.estimate import Item, add_up
from llmcalc.formula import Quantity, ceil_div, formula, smaller, where
from llmcalc.hardware import Placement, rank_numel, rank_width
from llmcalc.model.inventory import Cache, Inventory
from llmcalc.precision import Format
from llmcalc.units import GIB

RUNTIME_LOW, RUNTIME, RUNTIME_HIGH = GIB // 2, GIB, GIB * 3 // 2
"""What a process takes besides the model where no engine is named: context, workspaces, buffers."""


STATE_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of one element of a recurrent state. [B]"""


@formula
def rule_of_thumb(parameters: Quantity, bytes_per_parameter: Quantity, overhead: Quantity = 1.2) -> Quantity:
    """Bytes to serve a model of which only the size is known: weights and a fifth on top.

    Parameters
    ----------
    parameters : int or float or ndarray
        Parameters. [-]
    bytes_per_parameter : int or float or ndarray
        2 for 16 bit, 0.5 for 4 bit. [B]
    overhead : float
        Factor for KV cache, activations and runtime. [-]

    Returns
    -------
    int or float or ndarray
        Bytes. [B]

    Notes
    -----
    A planning figure for short contexts. The KV cache of a long context is not proportional to the
    parameters: name the model for an exact figure.

    Examples
    --------
    13 B parameters at 16 and at 4 bits, in GB:

    >>> rule_of_thumb(13e9, 2) / 1e9, rule_of_thumb(13e9, 0.5) / 1e9
    (31.2, 7.8)

    References
    ----------
    .. [1] EleutherAI, "Transformer Math 101", 2023, section "Total Inference Memory": 1.2 x model memory.
    """
    return parameters * bytes_per_parameter * overhead


@formula
def weight_bytes(parameters: Quantity, bits: Quantity) -> Quantity:
    """Bytes of parameters stored in `bits` bits each, rounded up.

    Parameters
    ----------
    parameters : int or ndarray
        Parameters. [-]
    bits : int or Fraction
        Bits of one parameter. [bit]

    Returns
    -------
    int or ndarray of int64
        Bytes. [B]

    Notes
    -----
    Exact for plain dtypes. Block formats add scales: use their bits per weight.

    Examples
    --------
    7 B parameters in fp16 are 14 GB, 70 B are 140 GB:

    >>> weight_bytes(7_000_000_000, 16), weight_bytes(70_000_000_000, 16)
    (14000000000, 140000000000)

    References
    ----------
    .. [1] EleutherAI, "Transformer Math 101", 2023, section "Model Weights".
    """
    return ceil_div(parameters * bits, 8)


@formula
def kv_cache_bytes(
    layers: Quantity,
    kv_heads: Quantity,
    head_dim: Quantity,
    tokens: Quantity,
    sequences: Quantity,
    bytes_per_element: Quantity,
) -> Quantity:
    """Bytes that the keys and values of full attention take.

    Parameters
    ----------
    layers : int
        Layers that keep a cache of full length. [-]
    kv_heads : int
        Key-value heads of one layer, not query heads. [-]
    head_dim : int
        Width of one head. [elements]
    tokens, sequences : int or ndarray
        Tokens of one sequence, and sequences held at once. [-]
    bytes_per_element : int or Fraction
        2 for bf16 and fp16, 1 for fp8. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences, keys and values together. [B]

    Notes
    -----
    Multi-head, grouped-query and multi-query attention without a window; for a latent cache see
    `mla_cache_bytes`, for a window `window_cache_bytes`.

    Examples
    --------
    Llama-3.1-8B (32 layers, 8 KV heads of 128), 8,192 tokens in 16 bit, is 1 GiB:

    >>> kv_cache_bytes(32, 8, 128, 8192, 1, 2)
    1073741824

    References
    ----------
    .. [1] J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from
       Multi-Head Checkpoints", 2023, section 2.2.
    """
    return 2 * layers * kv_heads * head_dim * bytes_per_element * sequences * tokens


@formula
def window_cache_bytes(
    layers: Quantity,
    kv_heads: Quantity,
    head_dim: Quantity,
    tokens: Quantity,
    window: Quantity,
    sequences: Quantity,
    bytes_per_element: Quantity,
) -> Quantity:
    """Bytes that the keys and values of sliding-window or chunked attention take at least.

    Parameters
    ----------
    layers, kv_heads, head_dim : int
        As in `kv_cache_bytes`. [-], [-], [elements]
    tokens, sequences : int or ndarray
        Tokens of one sequence, and sequences held at once. [-]
    window : int
        Positions that attention looks at. [tokens]
    bytes_per_element : int or Fraction
        Bytes of one element. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences, keys and values together. [B]

    Notes
    -----
    What the architecture needs. Engines keep more: whole pages, tokens in flight, or all positions.

    Examples
    --------
    The 52 window layers of Gemma-3-27B (16 KV heads of 128, window 1,024) at 128k tokens are 416 MiB:

    >>> window_cache_bytes(52, 16, 128, 131_072, 1024, 1, 2) / 2**20
    416.0

    References
    ----------
    .. [1] I. Beltagy et al., "Longformer: The Long-Document Transformer", 2020, section 3.1.
    .. [2] Gemma Team, "Gemma 3 Technical Report", 2025, section 2.
    """
    return 2 * layers * kv_heads * head_dim * bytes_per_element * sequences * smaller(tokens, window)


@formula
def mla_cache_bytes(
    layers: Quantity,
    kv_lora_rank: Quantity,
    qk_rope_head_dim: Quantity,
    tokens: Quantity,
    sequences: Quantity,
    bytes_per_element: Quantity,
) -> Quantity:
    """Bytes that the compressed cache of multi-head latent attention takes.

    Parameters
    ----------
    layers : int
        Layers. [-]
    kv_lora_rank : int
        Width of the latent, one for all heads. [elements]
    qk_rope_head_dim : int
        Width of the rotary key, one for all heads. [elements]
    tokens, sequences : int or ndarray
        Tokens of one sequence, and sequences held at once. [-]
    bytes_per_element : int or Fraction
        Bytes of one element. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Notes
    -----
    Some old engines expand keys and values per head instead; that is their layout, not a need.

    Examples
    --------
    DeepSeek-V3 (61 layers, 512 + 64), 32,768 tokens in 16 bit, in GiB:

    >>> round(mla_cache_bytes(61, 512, 64, 32_768, 1, 2) / 2**30, 4)
    2.1445

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language
       Model", 2024, section 2.1.2 and Table 1.
    """
    return layers * (kv_lora_rank + qk_rope_head_dim) * bytes_per_element * sequences * tokens


@formula
def cache_rows_bytes(layers: Quantity, row_bytes: Quantity, positions: Quantity, sequences: Quantity) -> Quantity:
    """Bytes of caches given the bytes of one position: keys and values of unlike width or format.

    Parameters
    ----------
    layers : int
        Layers. [-]
    row_bytes : int
        Bytes that one layer keeps at one position, blocks rounded up. [B]
    positions, sequences : int or ndarray
        Positions kept for one sequence, and sequences held at once. [-]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Examples
    --------
    A q8_0 row of 1,024 elements is 32 blocks of 34 bytes; keys and values of 32 layers, 8,192 tokens:

    >>> cache_rows_bytes(32, 2 * 32 * 34, 8192, 1) / 2**30
    0.53125

    References
    ----------
    .. [1] ggml, `ggml-common.h`, block layouts.
    """
    return layers * row_bytes * sequences * positions


@formula
def recurrent_state_bytes(
    layers: Quantity, state_elements: Quantity, sequences: Quantity, bytes_per_element: Quantity
) -> Quantity:
    """Bytes of recurrent states, whatever the context.

    Parameters
    ----------
    layers : int
        Layers with a state. [-]
    state_elements : int
        Elements of one layer's state: value heads x key width x value width for a delta net,
        heads x head width x state size for Mamba-2. [elements]
    sequences : int or ndarray
        Sequences held at once. [-]
    bytes_per_element : int
        4: recurrences are kept in fp32 unless the configuration says otherwise. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Examples
    --------
    Qwen3-Next-80B: 36 layers of 32 heads of 128 x 128 in fp32 are 72 MiB:

    >>> recurrent_state_bytes(36, 32 * 128 * 128, 1, 4) / 2**20
    72.0

    References
    ----------
    .. [1] S. Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta Rule", 2024, section 3.
    .. [2] T. Dao and A. Gu, "Transformers are SSMs", 2024, section 7.
    """
    return layers * state_elements * sequences * bytes_per_element


@formula
def conv_state_bytes(
    layers: Quantity, channels: Quantity, kernel: Quantity, sequences: Quantity, bytes_per_element: Quantity
) -> Quantity:
    """Bytes of the columns that a causal convolution remembers: one less than its kernel.

    Parameters
    ----------
    layers : int
        Layers with a convolution. [-]
    channels : int
        Its channels. [elements]
    kernel : int
        Its width in tokens. [tokens]
    sequences : int or ndarray
        Sequences held at once. [-]
    bytes_per_element : int or Fraction
        Bytes of one element, in the model's dtype. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Examples
    --------
    Qwen3-Next-80B: 36 layers of 8,192 channels, kernel 4, in 16 bit, in MiB:

    >>> conv_state_bytes(36, 8192, 4, 1, 2) / 2**20
    1.6875

    References
    ----------
    .. [1] A. Gu and T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023,
       section 3.4.
    """
    return layers * channels * (kernel - 1) * sequences * bytes_per_element


# -- folds -------------------------------------------------------------------------------------


class Precision:
    """The formats of one estimate: of weights (as bits), of keys, of values and of model-dtype states."""

    __slots__ = ("grade", "key", "label", "model", "value", "weight_bits")

    def __init__(self, weight_bits: Any, label: str, grade: str, model: Format, key: Format, value: Format) -> None:
        self.weight_bits, self.label, self.grade = weight_bits, label, grade
        self.model, self.key, self.value = model, key, value


def rank_parameters(inventory: Inventory, placement: Placement) -> list[int]:
    """Parameters of the main model on one rank of each stage; a tied head on a stage of its own is a copy."""
    held = []
    for stage in range(placement.pp):
        total = 0
        for group in inventory.groups:
            count = placement.count(group, stage)
            if count:
                total += count * sum(rank_numel(t, placement.tp) for t in group.tensors if t.tag == "main")
        held.append(total)
    if placement.pp > 1 and any(op.role == "embedding" for g in inventory if g.place == "head" for op in g.ops):
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
        grade=precision.grade,
        formula="weight_bytes",
        inputs={"parameters": worst, "bits": bits},
        source="Transformer Math 101, 2023",
        note=f"{worst:,} x {bits / 8:g} B",
    )


def kv_item(
    inventory: Inventory, placement: Placement, precision: Precision, tokens: Quantity, sequences: Quantity
) -> Item:
    """The KV cache on each rank, one part for each kind of cache."""
    parts = []
    for kind, members in _by_kind(inventory, state=False).items():
        parts.append(_cache_part(kind, members, placement, precision, tokens, sequences))
    grade = "assumed" if any(key != "context" for key in inventory.unproven) and parts else "exact"
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
    return {"full": "full attention", "latent": "latent", "recurrent": "recurrence", "conv": "convolution"}.get(
        cache.kind, cache.kind
    )


def _cache_part(
    kind: str, members: Members, placement: Placement, precision: Precision, tokens: Quantity, sequences: Quantity
) -> Item:
    """All caches of one kind, on each rank; equal ones by one call of their formula."""
    amounts: list[Quantity] = [0] * placement.pp
    made: tuple[str, dict[str, Any], str] = ("", {}, "")
    for group, cache in members:
        for stage in range(placement.pp):
            count = placement.count(group, stage)
            if count:
                made, amount = _cache_bytes(cache, count, placement.tp, precision, tokens, sequences)
                amounts[stage] = amount if not _is_set(amounts[stage]) else amounts[stage] + amount
    layers = sum(len(group.layers) for group, _ in members)
    return Item(
        f"{kind} ({layers} layers)" if layers != 1 else f"{kind} (1 layer)",
        amounts,
        phases=("prefill", "decode"),
        formula=made[0],
        inputs=made[1],
        source=made[2],
        note=_note(members[0][1], layers, placement.tp),
    )


def _is_set(value: Quantity) -> bool:
    return not (isinstance(value, int) and value == 0)


def _note(cache: Cache, layers: int, tp: int) -> str:
    name, dimension = cache.parts[0]
    axes = {"kv_heads": "KV heads", "state_heads": "heads", "latent": "latent", "rotary": "rotary"}
    if cache.kind == "latent":
        widths = " + ".join(str(rank_width(cache, part, tp)) for part in range(len(cache.parts)))
        return f"{layers} layers x ({widths})"
    if cache.kind == "conv":
        return f"{layers} layers x {rank_width(cache, 0, tp):,} x {cache.positions}"
    words = [f"{length} {axes[axis]}" if axis in axes else str(length) for axis, length in dimension[0]]
    del name
    return f"{layers} layers x {' x '.join(words)}"


def _cache_bytes(
    cache: Cache, count: int, tp: int, precision: Precision, tokens: Quantity, sequences: Quantity
) -> tuple[tuple[str, dict[str, Any], str], Quantity]:
    """Bytes of `count` equal layers, with the formula, its inputs and its source."""
    widths = [rank_width(cache, part, tp) for part in range(len(cache.parts))]
    inputs: dict[str, Any]
    if cache.kind == "recurrent":
        inputs = {
            "layers": count, "state_elements": widths[0], "sequences": sequences,
            "bytes_per_element": STATE_BYTES[cache.precision],
        }  # fmt: skip
        return ("recurrent_state_bytes", inputs, "Yang et al. 2024"), recurrent_state_bytes(**inputs)
    if cache.kind == "conv":
        inputs = {
            "layers": count, "channels": widths[0], "kernel": (cache.positions or 0) + 1, "sequences": sequences,
            "bytes_per_element": precision.model.bytes_per_element,
        }  # fmt: skip
        return ("conv_state_bytes", inputs, "Gu and Dao 2023"), conv_state_bytes(**inputs)
    plain = precision.key.elements == 1 and precision.key.name == precision.value.name
    width = precision.key.block_bytes
    if plain and cache.kind == "latent":
        inputs = {
            "layers": count, "kv_lora_rank": widths[0], "qk_rope_head_dim": widths[1], "tokens": tokens,
            "sequences": sequences, "bytes_per_element": width,
        }  # fmt: skip
        return ("mla_cache_bytes", inputs, "DeepSeek-V2 2024, section 2.1.2"), mla_cache_bytes(**inputs)
    if plain and widths[0] == widths[1] and len(cache.parts[0][1]) == 1:
        heads = -(-dict(cache.parts[0][1][0]).get("kv_heads", 1) // tp)
        inputs = {"layers": count, "kv_heads": heads, "head_dim": widths[0] // heads, "tokens": tokens}
        tail = {"sequences": sequences, "bytes_per_element": width}
        if cache.positions is None:
            inputs |= tail
            return ("kv_cache_bytes", inputs, "Ainslie et al. 2023, section 2.2"), kv_cache_bytes(**inputs)
        inputs |= {"window": cache.positions, **tail}
        return ("window_cache_bytes", inputs, "Beltagy et al. 2020, section 3.1"), window_cache_bytes(**inputs)
    row = sum(
        ceil_div(width * format_.block_bytes, format_.elements)
        for width, format_ in zip(widths, (precision.key, precision.value), strict=False)
    )
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
        Item("activations", nothing, phases=("prefill",), formula="none", note="an engine's: not in the minimum"),
        Item("cuda_graphs", nothing, phases=("decode",), formula="none", note="an engine's: not in the minimum"),
        runtime_item(placement),
    ]


def count_items(
    parameters: Quantity, bits: Any, overhead: Any, low: Quantity, high: Quantity, shares: int = 1
) -> list[Item]:
    """The items of the rule of thumb N x M x 1.2 on each of `shares` equal GPUs.

    Parameters
    ----------
    parameters : int or ndarray
        Parameters. [-]
    bits : int or Fraction
        Bits of one parameter. [bit]
    overhead : Fraction or int
        The factor. [-]
    low, high : int or ndarray
        Range of what comes on top of the weights. [B]
    shares : int
        GPUs that share the model equally. [-]
    """
    weights = weight_bytes(ceil_div(parameters, shares), bits)
    numerator, denominator = overhead.as_integer_ratio()
    extra = ceil_div(weights * (numerator - denominator), denominator)
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
            formula="rule_of_thumb",
            inputs={"parameters": parameters, "bytes_per_parameter": bits / 8, "overhead": numerator / denominator},
            source="Transformer Math 101, 2023",
            note=f"{100 * (numerator - denominator) / denominator:g} %: KV cache, activations, runtime",
        ),
    ]
