"""Hugging Face transformers: its caches, and every tensor of a forward pass.

`caches` says what a cache holds of each layer, `passes` follows the modelling code, `model` finds the peaks
and `items` makes lines of them. Sizes are those of tensors: what `torch.cuda.max_memory_allocated` counts.
"""

from llmcalc.memory.engines.transformers.caches import KV_FORMATS, VERSIONS, layout

__all__ = ["KV_FORMATS", "VERSIONS", "layout"]
