"""Qwen3-VL MoE, the text model: Qwen3 MoE's layers, all experts of a layer in one tensor."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, pre_norm
from llmcalc.model.families.qwen2_moe import sparse
from llmcalc.model.families.qwen3 import attention
from llmcalc.model.layers import Block, moe

NAMES = {"expert_gate_up": "mlp.experts.gate_up_proj", "expert_down": "mlp.experts.down_proj"}


def block(c: Config, layer: int) -> Block:
    if not sparse(c, layer):
        return pre_norm(c, attention(c, layer), dense(c))
    experts = moe(c.hidden_size, c.num_experts, c.num_experts_per_tok, c.moe_intermediate_size, fused=True)
    return pre_norm(c, attention(c, layer), experts)
