"""Helium: Llama's layers; biases, if any, on query, key and value only."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, grouped(c, bias=c.flag("attention_bias")), dense(c, bias=c.flag("mlp_bias")))
