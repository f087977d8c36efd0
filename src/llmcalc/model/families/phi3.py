"""Phi 3, 3.5 and 4: query, key and value in one matrix, gate and up in one; a window in some sizes."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, mlp, norm


def block(c: Config, layer: int) -> Block:
    window = c.window()
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(
            c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, fused=True, window=window
        )
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.intermediate_size, fused=True)
    )
