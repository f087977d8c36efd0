"""OLMoE: q/k norms over the whole width; experts in every layer, no shared one."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.layers import Block, moe


def attention(c: Config) -> Block:
    bias = c.flag("attention_bias")
    return grouped(c, bias=bias, out_bias=bias, qk_norm="width")


def experts(c: Config) -> Block:
    return moe(c.hidden_size, c.num_experts, c.num_experts_per_tok, c.intermediate_size)


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c), experts(c))
