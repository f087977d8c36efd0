"""Seed-OSS: Llama's layers with biases on query, key and value, and many heads."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block

GGUF_NAMES = {"ffn_norm": "post_attention_norm"}


def block(c: Config, layer: int) -> Block:
    attention = grouped(c, bias=c.flag("attention_bias", True), out_bias=c.flag("attention_out_bias"))
    return pre_norm(c, attention, dense(c, bias=c.flag("mlp_bias")))
