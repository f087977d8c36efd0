"""Qwen3 MoE: Qwen3's attention; routed experts without a shared one."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, pre_norm
from llmcalc.model.families.qwen2_moe import sparse
from llmcalc.model.families.qwen3 import attention
from llmcalc.model.layers import Block, moe


def feed_forward(c: Config, layer: int) -> Block:
    if not sparse(c, layer):
        return dense(c)
    return moe(c.hidden_size, c.num_experts, c.num_experts_per_tok, c.moe_intermediate_size)


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c, layer), feed_forward(c, layer))
