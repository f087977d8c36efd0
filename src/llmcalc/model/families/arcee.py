"""Arcee AFM: Llama's attention; an MLP of two matrices without a gate."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias), dense(c, gated=False, bias=c.flag("mlp_bias")))
