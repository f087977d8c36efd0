"""ERNIE 4.5 dense: Llama's layers with a head width of their own; one key for all biases."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    bias = c.flag("use_bias")
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias), dense(c, bias=bias))
