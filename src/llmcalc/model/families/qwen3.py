"""Qwen3: grouped-query attention with a norm on each query and key head; head width of its own."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.families.qwen2 import window
from llmcalc.model.layers import Block


def attention(c: Config, layer: int, gated: bool = False) -> Block:
    bias = c.flag("attention_bias")
    return grouped(c, bias=bias, out_bias=bias, qk_norm="head", gated=gated, window=window(c, layer))


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c, layer), dense(c))
