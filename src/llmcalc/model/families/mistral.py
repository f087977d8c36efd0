"""Mistral: Llama's layers without biases; 7B v0.1 attends to a window of 4,096 in every layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, mlp, norm


def block(c: Config, layer: int) -> Block:
    window = c.window()
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, window=window)
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.intermediate_size)
    )
