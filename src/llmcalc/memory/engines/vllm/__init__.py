"""vLLM: weights, a profiled peak, and a pool of equal pages for all that is remembered."""

from llmcalc.model.inventory import Cache

VERSIONS = "0.33.0"
SOURCE = "vLLM 0.33.0, sources; logs of 0.2 to 0.26"

KV_FORMATS = (
    "bf16", "fp16", "fp32", "fp8", "fp8-token-head", "int8-token-head", "int4-token-head",
    "nvfp4",
)  # fmt: skip
"""What a page holds keys and values in."""


def layout(cache: Cache) -> Cache:
    """What the architecture needs, as it is: the pool lays it out in pages."""
    return cache
