"""OLMo 2: norms after attention and MLP, not before; q/k norms over the whole width."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, mlp, norm

NAMES = {"post_attn_norm": "post_attention_layernorm", "post_ffn_norm": "post_feedforward_layernorm"}


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    return (
        gqa(
            c.hidden_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            bias=bias,
            out_bias=bias,
            qk_norm="width",
        )
        + norm("post_attn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.intermediate_size)
        + norm("post_ffn_norm", c.hidden_size)
    )
