"""Apertus: q/k norms per head, an MLP of two matrices whose activation learns two numbers a layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block
from llmcalc.model.layers.variants import scalars

NAMES = {
    "attn_norm": "attention_layernorm",
    "ffn_norm": "feedforward_layernorm",
    "activation_positive": "mlp.act_fn.alpha_p",
    "activation_negative": "mlp.act_fn.alpha_n",
}


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    feed_forward = dense(c, gated=False, bias=c.flag("mlp_bias"))
    learned = scalars("activation_positive", "activation_negative")
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias, qk_norm="head"), feed_forward + learned)
