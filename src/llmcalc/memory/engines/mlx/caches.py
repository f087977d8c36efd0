"""How mlx-lm keeps what a layer remembers: caches that grow in steps, rotate, or stay.

Read off mlx-lm at d78bf58e (August 2026), `models/cache.py` and the models' own `make_cache`.
"""

from __future__ import annotations

from collections.abc import Iterable

from llmcalc.formula import ceil_div
from llmcalc.memory.caches import STATE_BYTES
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Cache, Group, Inventory, size
from llmcalc.precision import Format

STEP = 256
"""Positions by which a cache grows: KVCache.step. [tokens]"""

CHUNK = 2048
"""Tokens of one pass over a prompt: prefill_step_size. [tokens]"""

ROTATES = (
    "afmoe", "cohere2", "exaone4", "exaone4_5", "exaone4_5_text", "exaone_moe", "gemma3", "gemma3_text",
    "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gpt_oss", "llama", "mimo_v2_flash", "ministral",
    "ministral3", "mistral", "olmo3", "recurrent_gemma", "step3p5",
)  # fmt: skip
"""Families whose windows mlx-lm keeps in a RotatingKVCache; all others keep every position."""

EXPANDS = ("deepseek_v2", "minicpm3", "youtu_llm")
"""Families of latent attention whose keys and values mlx-lm keeps per head."""

KV_FORMATS = ("bf16", "fp16", "fp32", "mlx-kv-8bit", "mlx-kv-4bit", "mlx-kv-2bit")
"""16 bit as computed, or QuantizedKVCache's bits in groups of 64."""

ODD_KINDS = ("indexer", "compressed", "tail", "cross")


class Kept:
    """One layer's cache as mlx-lm keeps it.

    Attributes
    ----------
    kind : str
        ``grow``, ``rotate``, ``chunk`` or ``state``.
    row : int
        Bytes of one position of one sequence; of a state, bytes of one sequence. [B]
    most : int
        Positions of the window or chunk; 0 for all. [tokens]
    """

    __slots__ = ("kind", "most", "quantized", "row")

    def __init__(self, kind: str, row: int, most: int = 0, quantized: bool = False) -> None:
        self.kind, self.row, self.most, self.quantized = kind, row, most, quantized

    def positions(self, tokens: int) -> int:
        """Positions held once `tokens` are in, in decode. [tokens]

        Examples
        --------
        >>> Kept("grow", 4096).positions(2176), Kept("rotate", 4096, 128).positions(2176)
        (2304, 128)
        """
        whole = int(ceil_div(tokens, STEP)) * STEP
        if self.kind == "state":
            return 1
        if self.kind == "rotate":
            return min(self.most, whole)
        if self.kind == "chunk":
            return min(self.most + STEP, whole)
        return whole

    def filled(self, before: int, chunk: int) -> int:
        """Positions held once a chunk of a prompt has come to `before` tokens. [tokens]

        A rotating cache takes a chunk whole, behind all but one position of its window.
        """
        if self.kind == "state":
            return 1
        if self.kind == "rotate":
            return min(before, self.most - 1) + chunk
        whole = int(ceil_div(before + chunk, STEP)) * STEP
        return min(self.most + int(ceil_div(chunk, STEP)) * STEP, whole) if self.kind == "chunk" else whole


def _bytes(width: int, kept: Format) -> int:
    return int(ceil_div(width * kept.block_bytes, kept.elements))


def kept_of(cache: Cache, group: Group, inventory: Inventory, precision: Precision) -> Kept:
    """What mlx-lm keeps for a cache of the architecture."""
    if cache.is_state:
        each = precision.model.bytes_per_element
        each = each if cache.precision == "model" else STATE_BYTES[cache.precision]
        positions = (cache.positions or 1) if cache.kind == "conv" else 1
        return Kept("state", int(size(cache.parts[0][1]) * positions * each))
    widths = [size(part) for _, part in cache.parts]
    if cache.kind == "latent" and inventory.family in EXPANDS:
        widths = expanded(group)
    rotates = cache.kind == "window" and inventory.family in ROTATES
    # Neither rotating caches nor those that several layers share in odd ways are quantized.
    plain = rotates or cache.kind in ODD_KINDS
    formats = [precision.model] * 2 if plain else [precision.key, precision.value]
    row = sum(_bytes(width, formats[min(part, 1)]) for part, width in enumerate(widths))
    row = ceil_div(row, cache.rate)
    quantized = not plain and precision.key.elements > 1
    if cache.kind == "chunk":
        return Kept("chunk", row, cache.positions or 0, quantized)
    if rotates:
        return Kept("rotate", row, cache.positions or 0)
    return Kept("grow", row, 0, quantized)


def expanded(group: Group) -> list[int]:
    """Keys and values per head of latent attention, where they are kept so. [elements]"""
    ops = {op.role: op for op in group.ops}
    heads = dict(ops["query_b"].out[0] if "query_b" in ops else ops["query"].out[0])["heads"]
    rotary = size(ops["kv_a"].out[1:])
    return [size(ops["kv_b"].out) + heads * rotary]


def text_groups(inventory: Inventory) -> Iterable[Group]:
    """The groups that mlx-lm loads: the language model."""
    return (group for group in inventory.groups if group.component == "text")
