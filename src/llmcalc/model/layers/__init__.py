"""Layer builders: each kind of attention, feed-forward and state once, as tensors, caches and ops.

A builder called by a family returns a `Block`: a cheap, comparable description. Equal blocks are
grouped and only then expanded, so a model of 126 equal layers is expanded once. Blocks add up:
``gqa(...) + mlp(...)``. A new kind of attention or state is one more function in one of these files.

Axis names: ``hidden, heads, kv_heads, head_dim, ffn, expert, vocab, latent, state_heads, groups``.
Axes that tensor parallelism splits are named in `llmcalc.hardware`.
"""

from llmcalc.model.layers.attention import attention_cache, gqa, mla
from llmcalc.model.layers.core import Block, Lowered, builder, lower
from llmcalc.model.layers.feed_forward import mlp, moe
from llmcalc.model.layers.outside import embedding, head, norm, positions, projection
from llmcalc.model.layers.state import gated_delta_net, mamba2
from llmcalc.model.layers.towers import patches, tower_layer

__all__ = [
    "Block", "Lowered", "attention_cache", "builder", "embedding", "gated_delta_net", "gqa", "head", "lower",
    "mamba2", "mla", "mlp", "moe", "norm", "patches", "positions", "projection", "tower_layer",
]  # fmt: skip
