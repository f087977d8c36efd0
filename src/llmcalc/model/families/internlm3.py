"""InternLM 3: Llama's layers with two KV heads; biases, if any, are called as in InternLM 2."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    bias = c.flag("bias", c.flag("mlp_bias"))
    attention = grouped(c, bias=c.flag("qkv_bias", c.flag("attention_bias")), out_bias=bias)
    return pre_norm(c, attention, dense(c, bias=bias))
