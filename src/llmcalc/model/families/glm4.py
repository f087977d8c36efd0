"""GLM 4 0414 and Z1: GLM's layers with four norms; not all have biases."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, sandwich_norm
from llmcalc.model.layers import Block

NAMES = {
    "post_attn_norm": "post_self_attn_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "post_ffn_norm": "post_mlp_layernorm",
}


def block(c: Config, layer: int) -> Block:
    return sandwich_norm(c, grouped(c, bias=c.flag("attention_bias", True)), dense(c, fused=True))
