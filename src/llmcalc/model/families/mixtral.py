"""Mixtral: Mistral's attention, and routed experts in the place of the MLP."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.layers import Block, moe

NAMES = {
    "router": "block_sparse_moe.gate",
    "expert_gate": "block_sparse_moe.experts.{expert}.w1",
    "expert_up": "block_sparse_moe.experts.{expert}.w3",
    "expert_down": "block_sparse_moe.experts.{expert}.w2",
}


def block(c: Config, layer: int) -> Block:
    experts = moe(c.hidden_size, c.num_local_experts, c.num_experts_per_tok, c.intermediate_size)
    return pre_norm(c, grouped(c, window=c.window()), experts)
