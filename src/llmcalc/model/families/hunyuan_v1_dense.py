"""Hunyuan dense: Qwen3's attention under other names, with or without biases; embeddings tied."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block

NAMES = {"query_norm": "self_attn.query_layernorm", "key_norm": "self_attn.key_layernorm"}


def attention(c: Config) -> Block:
    c.read |= {"attention_head_dim", "cla_share_factor"}
    bias = c.flag("attention_bias")
    return grouped(c, bias=bias, out_bias=bias, qk_norm="head" if c.flag("use_qk_norm", True) else "")


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c), dense(c))
