"""TensorRT-LLM: weights, a profiled batch, and blocks in a fixed share of what those leave."""

from llmcalc.model.inventory import Cache

VERSIONS = "1.2.1"
SOURCE = "TensorRT-LLM, docs/source/features/kvcache.md, tensorrt_llm/_torch/pyexecutor/_util.py"

KV_FORMATS = ("bf16", "fp16", "fp32", "fp8", "int8", "nvfp4")
"""What a block holds keys and values in."""


def layout(cache: Cache) -> Cache:
    """What the architecture needs, as it is: the pool lays it out in blocks."""
    return cache
