"""Hugging Face transformers: the tensors of its DynamicCache.

Read off runs of 5.23.0: a sliding or chunked layer keeps one position less than its window, a causal
convolution keeps all K columns, and states are kept in the dtype of the model. Families whose code
is peculiar say so on their caches.
"""

from llmcalc.model.inventory import Cache

VERSIONS = "5.23.0"

KV_FORMATS = ("bf16", "fp16", "fp32")
"""A DynamicCache holds what the model computes; its quantized caches are not modelled."""


def layout(cache: Cache) -> Cache:
    """What a DynamicCache holds for one layer."""
    kept = cache.variants.get("transformers", cache)
    positions, precision = kept.positions, kept.precision
    if kept.kind in ("window", "chunk") and positions is not None:
        positions = max(positions - 1, 0)
    elif kept.kind == "conv" and positions is not None:
        positions += 1
    elif kept.kind == "recurrent":
        precision = "model"
    return Cache(kept.kind, kept.parts, positions, precision, kept.stream, rate=kept.rate)
