"""What the caches of transformers hold.

Read off runs of 5.23.0 and 5.24.0: a sliding or chunked layer keeps one position less than its window, a
causal convolution keeps all K columns, and since 5.17 states are kept as they are computed. Families
whose code is peculiar say so on their caches.
"""

from __future__ import annotations

from copy import copy

from llmcalc.engine_options.transformers import TransformersOptions
from llmcalc.model.inventory import Cache, Group, Inventory, dim, size
from llmcalc.precision import Format

VERSIONS = "5.24.0"

KV_FORMATS = ("bf16", "fp16", "fp32", "quantized-int4", "quantized-int2")
"""A cache holds what the model computes, or is quantized."""


def layout(cache: Cache) -> Cache:
    """What a DynamicCache of the newest release holds for one layer."""
    kept = cache.variants.get("transformers", cache)
    positions, precision = kept.positions, kept.precision
    if kept.kind in ("window", "chunk") and positions is not None:
        positions = max(positions - 1, 0)
    elif kept.kind == "conv" and positions is not None:
        positions += 1
    return Cache(kept.kind, kept.parts, positions, precision, kept.stream, rate=kept.rate)


def kept_by(options: TransformersOptions, group: Group, cache: Cache) -> Cache:
    """What the cache that is asked for holds for one layer, as storages at rest."""
    made = layout(cache)
    if made.kind == "recurrent" and not options.era.keeps_wide_states:
        made.precision = "model"
    windowed = made.kind in ("window", "chunk") and made.positions is not None
    if windowed and options.is_static:
        made.positions = (made.positions or 0) + 1
    elif windowed and not options.era.slides:
        made.kind, made.positions = "full", None
    elif made.kind == "latent" and not options.era.keeps_latents:
        attention = next(op for op in group.ops if op.kind == "attention")
        heads = dict(attention.out[0]).get("heads", 1)
        key = dim(kv_heads=heads, head_dim=size(attention.out) // heads)
        made = Cache("full", (("k", key), ("v", dim(kv_heads=heads, head_dim=size(attention.inp) // heads))))
    return made


def as_kept(inventory: Inventory, options: TransformersOptions) -> Inventory:
    """The model with the caches that transformers makes of its needs."""
    made = copy(inventory)
    groups = []
    for group in inventory.groups:
        own = copy(group)
        own.caches = tuple(kept_by(options, group, cache) for cache in group.caches)
        groups.append(own)
    made.groups = tuple(groups)
    return made


def as_run(inventory: Inventory, options: TransformersOptions) -> Inventory:
    """The same with whole windows, as passes look at them."""
    made = as_kept(inventory, options)
    for own, group in zip(made.groups, inventory.groups, strict=True):
        for kept, need in zip(own.caches, group.caches, strict=True):
            if kept.kind in ("window", "chunk"):
                kept.positions = need.variants.get("transformers", need).positions
    return made


def quantized(options: TransformersOptions) -> Format:
    """The format of a quantized cache: groups with a scale and a zero point, the newest tokens in 16 bit.

    Examples
    --------
    >>> quantized(TransformersOptions()).bytes_per_element
    Fraction(9, 16)
    """
    if options.backend == "fp8":
        return Format("fp8", 1, 1)
    return Format(
        f"{options.backend}-int{options.bits}", options.group, options.packed(options.group),
        residual=options.residual,
    )  # fmt: skip
