"""Phi 3.5 MoE: LayerNorms, biases on attention and head; experts in every layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families.mixtral import NAMES
from llmcalc.model.layers import Block, moe, norm

__all__ = ["NAMES", "block", "head"]


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    attention = grouped(c, bias=bias, out_bias=bias, window=c.window())
    experts = moe(c.hidden_size, c.num_local_experts, c.num_experts_per_tok, c.intermediate_size)
    return pre_norm(c, attention, experts, bias=True)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c, bias=c.flag("lm_head_bias"))
