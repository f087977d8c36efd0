"""Cells and bytes of llama.cpp's caches and states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.errors import InputError
from llmcalc.formula import ceil_div
from llmcalc.memory.engines.llamacpp.batch import Settings, kept_widths
from llmcalc.memory.engines.llamacpp.era import padding
from llmcalc.memory.engines.llamacpp.layer import Layer, state_elements
from llmcalc.memory.engines.llamacpp.traits import Traits
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Inventory, size
from llmcalc.precision import Format

PAD = 256
"""Today cells come in steps of this. [tokens]"""

TYPES = ("fp32", "fp16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
"""Types of ``-ctk`` and ``-ctv``."""


def padded(cells: int, step: int = PAD) -> int:
    """Cells as they are allocated. [tokens]

    Examples
    --------
    >>> padded(4097)
    4352
    """
    return int(ceil_div(cells, step)) * step


def cells_of(context: int, slots: int, options: Any) -> int:
    """Cells of one stream: of every slot, or of the one cache that all share. [tokens]"""
    step = padding(options.build, options.flash_attn)
    if options.n_ctx is not None:
        total = padded(options.n_ctx, step)
        return total if options.kv_unified else padded(ceil_div(total, slots), step)
    return padded(context * slots, step) if options.kv_unified else padded(context, step)


def asked_of(context: int, slots: int, options: Any) -> int:
    """The context over all slots as llama.cpp is told it: no batch is longer. [tokens]"""
    return int(context * slots if options.n_ctx is None else options.n_ctx)


def window_cells(layers: Sequence[Layer], cells: int, slots: int, options: Any) -> int:
    """Cells of a window cache: the window of every sequence in it, and one physical batch. [tokens]"""
    windows = [layer.cache.positions or 0 for layer in layers if layer.is_windowed and layer.cache]
    if not windows or options.swa_full:
        return cells
    many = slots if options.kv_unified else 1
    step = padding(options.build, options.flash_attn)
    return padded(min(cells, max(windows) * many + options.ubatch), step)


def check_types(layers: Sequence[Layer], options: Any, precision: Precision, inventory: Inventory) -> None:
    """Refuse types that llama.cpp refuses.

    Raises
    ------
    InputError
        For quantized values without flash attention, unlike types of a latent cache, heads that no
        block divides, and types it does not have.
    """
    key, value = precision.key, precision.value
    for kept, option in ((key, "-ctk"), (value, "-ctv")):
        if kept.name not in TYPES:
            raise InputError(
                f"llama.cpp keeps no cache in {kept.name}.",
                f"Use {option} f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl.",
            )
    if value.elements > 1 and not options.flash_attn:
        raise InputError(
            f"Values quantized to {value.name} need flash attention.", "Add --flash-attn on, or -ctv f16."
        )
    latent = options.mla and any(c.kind == "latent" for g in inventory.groups for c in g.caches)
    if latent and not options.fork and key.name != value.name:
        raise InputError(
            f"A latent cache holds keys and values in one, not {key.name} and {value.name}.",
            f"Use the same type for both: -ctk {key.name} -ctv {key.name}.",
        )
    for layer in layers:
        for kept, width in ((key, layer.head_width), (value, layer.value_width)):
            if options.flash_attn and width % kept.elements:
                raise InputError(
                    f"Blocks of {kept.elements} ({kept.name}) do not divide heads of {width}.",
                    "Use -ctk f16 -ctv f16.",
                )


def row_bytes(kept: Format, width: int) -> int:
    """Bytes of so many elements of one position. [B]"""
    return int(ceil_div(width, kept.elements)) * kept.block_bytes


def layer_bytes(
    layer: Layer, layers: Sequence[Layer], settings: Settings, precision: Precision, traits: Traits
) -> int:
    """Bytes of a layer's keys and values over all streams. [B]

    Without flash attention values lie transposed, as wide in every layer as in the widest.
    """
    total = 0
    if traits.encodes and settings.era.caches_encoders:
        width = layer.heads * layer.head_width
        return settings.streams * settings.cells * 2 * row_bytes(precision.key, width)
    for cache in layer.group.caches:
        if cache.is_state or cache.stream != "decoder" or cache.kind == "cross":
            continue
        windowed = traits.windows and cache.kind in ("window", "chunk")
        cells = settings.window_cells if windowed else settings.cells
        cells = ceil_div(cells, cache.rate)
        widths = [size(part) for _, part in cache.parts]
        if cache.kind == "latent" and not settings.latent:
            heads, key, own = kept_widths(layer, latent=False)
            total += cells * (row_bytes(precision.key, heads * key) + row_bytes(precision.value, heads * own))
            continue
        if cache.kind in ("latent", "indexer", "compressed", "tail"):
            total += cells * row_bytes(precision.key, sum(widths))
            if cache.kind == "latent" and settings.era.doubles_latents:
                total += cells * row_bytes(precision.value, widths[0])
            continue
        value = widths[-1]
        if not settings.flash:
            value = max(other.kv_heads * other.value_width for other in layers)
        total += cells * (row_bytes(precision.key, widths[0]) + row_bytes(precision.value, value))
    return total * settings.streams


def state_bytes(layer: Layer, slots: int, snapshots: int = 0) -> int:
    """Bytes of a layer's states over all slots, in fp32, with snapshots to go back to. [B]"""
    return 4 * slots * (1 + snapshots) * sum(state_elements(cache) for cache in layer.states.values())
