"""Persimmon: fused query, key and value, LayerNorms on queries and keys, biases everywhere but the head."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, multi_head, pre_norm
from llmcalc.model.layers import Block, norm

NAMES = {
    "qkv": "self_attn.query_key_value",
    "output": "self_attn.dense",
    "query_norm": "self_attn.q_layernorm",
    "key_norm": "self_attn.k_layernorm",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "final_norm": "model.final_layernorm",
}


def block(c: Config, layer: int) -> Block:
    qk_norm = "head" if c.flag("qk_layernorm", True) else ""
    attention = multi_head(c, bias=True, out_bias=True, fused=True, qk_norm=qk_norm, norm_bias=True)
    return pre_norm(c, attention, dense(c, gated=False, bias=True), bias=True)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, True) + unembed(c)
