"""InternLM 1: Llama's layers with biases on all four attention matrices."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    bias = c.flag("bias", True)
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias), dense(c))
