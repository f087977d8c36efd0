"""Baichuan 1 and 2: Llama's layers with query, key and value in one matrix."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, multi_head, pre_norm
from llmcalc.model.layers import Block

NAMES = {"qkv": "self_attn.W_pack"}


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, multi_head(c, fused=True), dense(c))
