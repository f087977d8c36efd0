"""Granite 3 MoE: Llama's attention; experts in every layer, gate and up of all in one tensor."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.layers import Block, moe

NAMES = {
    "router": "block_sparse_moe.router.layer",
    "expert_gate_up": "block_sparse_moe.input_linear",
    "expert_down": "block_sparse_moe.output_linear",
}


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    experts = moe(
        c.hidden_size,
        c.num_local_experts,
        c.num_experts_per_tok,
        c.intermediate_size,
        fused=True,
        upright=True,
    )
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias), experts)
