"""SGLang: weights and pools in a fixed share of the free memory, all else in the rest."""

from llmcalc.model.inventory import Cache

VERSIONS = "0.5.23"
SOURCE = "SGLang 0.1.17 to 0.5.23, sources"

KV_FORMATS = ("bf16", "fp16", "fp32", "fp8", "nvfp4")
"""What a pool holds keys and values in (``--kv-cache-dtype``: auto, fp8_e5m2, fp8_e4m3, fp4_e2m1)."""


def layout(cache: Cache) -> Cache:
    """What the architecture needs, as it is: the pools lay it out in slots."""
    return cache
