"""StarCoder 2: LayerNorms, biases everywhere, an MLP of two matrices; one window for all layers, or none."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block, norm

NAMES = {"up": "mlp.c_fc", "down": "mlp.c_proj"}


def block(c: Config, layer: int) -> Block:
    bias = c.flag("use_bias", True)
    attention = grouped(c, bias=bias, out_bias=bias, window=c.window())
    return pre_norm(c, attention, dense(c, gated=False, bias=bias), bias=True)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
