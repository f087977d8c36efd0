"""Kolibri 1: four windows to one full layer, four norms a layer, experts with a shared one in all."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, sandwich_norm, windowed
from llmcalc.model.layers import Block, moe

NAMES = {
    "post_attn_norm": "post_attn_norm",
    "ffn_norm": "post_attention_layernorm",
    "post_ffn_norm": "post_ffn_norm",
    "router_correction": "moe.router.expert_bias",
}


def block(c: Config, layer: int) -> Block:
    window = c.window()
    window = window if windowed(c, layer, known=5) else None
    experts = moe(
        c.hidden_size,
        c.optional("num_experts") or c.num_local_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=True,
        shared_ffn=c.number("shared_expert_intermediate_size"),
    )
    return sandwich_norm(c, grouped(c, qk_norm="head", window=window), experts)
