"""Jais 2: LayerNorms, biases everywhere but on the head, an MLP of two matrices."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block, norm


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    feed_forward = dense(c, gated=False, bias=c.flag("mlp_bias"))
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias), feed_forward, bias=True)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
