"""GLM 4 9B: biases on query, key and value, gate and up in one matrix."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, grouped(c, bias=c.flag("attention_bias", True)), dense(c, fused=True))
