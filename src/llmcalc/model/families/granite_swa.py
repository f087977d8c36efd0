"""Granite with windows: one full layer, the first, to three of 128; attention sinks in all."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    c.read.add("layer_rope_theta")
    kinds, window, bias = c.layer_types(), c.window(), c.flag("attention_bias")
    windowed = kinds[layer] == "sliding_attention" if kinds else layer % 4 != 0
    attention = grouped(c, bias=bias, out_bias=bias, sinks=True, window=window if windowed else None)
    return pre_norm(c, attention, dense(c, bias=c.flag("mlp_bias")))
