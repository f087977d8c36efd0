"""Qwen 1.5 and 2 MoE: Qwen2's attention; routed experts beside a gated shared one."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.families.qwen2 import window
from llmcalc.model.layers import Block, moe

NAMES = {
    "shared_gate": "mlp.shared_expert.gate_proj",
    "shared_up": "mlp.shared_expert.up_proj",
    "shared_down": "mlp.shared_expert.down_proj",
}


def sparse(c: Config, layer: int) -> bool:
    """Whether a layer has experts, by the keys that all Qwen MoE models share."""
    c.read |= {"intermediate_size", "num_experts_per_tok", "moe_intermediate_size"}
    step = c.size("decoder_sparse_step", 1)
    return (
        c.optional("num_experts") is not None
        and layer not in c.indices("mlp_only_layers")
        and (layer + 1) % step == 0
    )


def feed_forward(c: Config, layer: int) -> Block:
    if not sparse(c, layer):
        return dense(c)
    shared = c.shared_expert_intermediate_size
    return moe(
        c.hidden_size,
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        shared_ffn=shared,
        shared_gate=True,
    )


def block(c: Config, layer: int) -> Block:
    bias = c.flag("qkv_bias", True)
    return pre_norm(c, grouped(c, bias=bias, window=window(c, layer)), feed_forward(c, layer))
