"""Gemma 2: a window in every other layer, the first included; four norms a layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, mlp, norm

NAMES = {
    "post_attn_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffn_norm": "post_feedforward_layernorm",
}


def sandwiched(c: Config, attention: Block) -> Block:
    """A layer with a norm before and after both attention and MLP."""
    return (
        norm("attn_norm", c.hidden_size)
        + attention
        + norm("post_attn_norm", c.hidden_size)
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.intermediate_size)
        + norm("post_ffn_norm", c.hidden_size)
    )


def block(c: Config, layer: int) -> Block:
    kinds = c.layer_types()  # files older than the key alternate, the window first
    windowed = kinds[layer] == "sliding_attention" if kinds else layer % 2 == 0
    window = c.window()
    bias = c.flag("attention_bias")
    return sandwiched(
        c,
        gqa(
            c.hidden_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            bias=bias,
            out_bias=bias,
            window=window if windowed else None,
        ),
    )
