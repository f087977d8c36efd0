"""Qwen3: grouped-query attention with a norm on each query and key head; head width of its own."""

from llmcalc.model.configuration import Config
from llmcalc.model.families.qwen2 import window
from llmcalc.model.layers import Block, gqa, mlp, norm


def attention(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    return gqa(
        c.hidden_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.head_dim,
        bias=bias,
        out_bias=bias,
        qk_norm="head",
        window=window(c, layer),
    )


def block(c: Config, layer: int) -> Block:
    return (
        norm("attn_norm", c.hidden_size)
        + attention(c, layer)
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.intermediate_size)
    )
