"""OLMo 2: norms after attention and MLP, not before; q/k norms over the whole width."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped
from llmcalc.model.layers import Block, norm

NAMES = {"post_attn_norm": "post_attention_layernorm", "post_ffn_norm": "post_feedforward_layernorm"}


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    return (
        grouped(c, bias=bias, out_bias=bias, qk_norm="width")
        + norm("post_attn_norm", c.hidden_size)
        + dense(c)
        + norm("post_ffn_norm", c.hidden_size)
    )
