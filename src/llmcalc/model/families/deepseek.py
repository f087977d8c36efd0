"""DeepSeekMoE 16B, before latent attention: a dense first layer, then small experts with shared ones."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families.deepseek_v2 import feed_forward
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias), feed_forward(c, layer))
