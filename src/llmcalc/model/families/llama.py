"""Llama 1 to 3, and the many models saved in its format: grouped-query attention, gated MLP."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias), dense(c, bias=c.flag("mlp_bias")))
