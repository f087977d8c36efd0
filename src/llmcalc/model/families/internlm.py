"""InternLM 1: Llama's layers with biases on all four attention matrices."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, mlp, norm


def block(c: Config, layer: int) -> Block:
    bias = c.flag("bias", True)
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(
            c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, bias=bias, out_bias=bias
        )
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.intermediate_size)
    )
