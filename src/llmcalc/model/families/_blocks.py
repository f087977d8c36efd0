"""What most families are made of: the builders of `layers` fed with the usual configuration keys."""

from __future__ import annotations

from typing import Any

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, mlp, norm


def pre_norm(c: Config, attention: Block, feed_forward: Block, *, bias: bool = False) -> Block:
    """A norm before attention and one before the feed-forward layer; with `bias` LayerNorms."""
    width = c.hidden_size
    return norm("attn_norm", width, bias) + attention + norm("ffn_norm", width, bias) + feed_forward


def sandwich_norm(c: Config, attention: Block, feed_forward: Block) -> Block:
    """A norm before and after both: four a layer."""
    width = c.hidden_size
    return (
        norm("attn_norm", width)
        + attention
        + norm("post_attn_norm", width)
        + norm("ffn_norm", width)
        + feed_forward
        + norm("post_ffn_norm", width)
    )


def grouped(c: Config, **traits: Any) -> Block:
    """Grouped-query attention by the usual keys; `traits` are those of `layers.gqa`."""
    return gqa(c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, **traits)


def multi_head(c: Config, **traits: Any) -> Block:
    """Attention with a key and value for each query head."""
    return gqa(c.hidden_size, c.num_attention_heads, c.num_attention_heads, c.head_dim, **traits)


def dense(c: Config, **traits: Any) -> Block:
    """A feed-forward layer of `intermediate_size`; `traits` are those of `layers.mlp`."""
    return mlp(c.hidden_size, c.intermediate_size, **traits)
