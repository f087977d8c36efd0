"""Arcee Trinity: gated attention, three windows to one full layer, four norms; dense first layers."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, sandwich_norm, windowed
from llmcalc.model.layers import Block, moe, projection

NAMES = {
    "attn_gate": "self_attn.gate_proj",
    "post_attn_norm": "post_attention_layernorm",
    "ffn_norm": "pre_mlp_layernorm",
    "post_ffn_norm": "post_mlp_layernorm",
    "router": "mlp.router.gate",
    "router_correction": "mlp.expert_bias",
}


def attention(c: Config, layer: int) -> Block:
    bias, window = c.flag("attention_bias"), c.window()
    made = grouped(
        c,
        bias=bias,
        out_bias=bias,
        qk_norm="head",
        window=window if windowed(c, layer, "global_attn_every_n_layers", known=4) else None,
    )
    return made + projection("attn_gate", c.num_attention_heads * c.head_dim, c.hidden_size, out_axis="heads")


def block(c: Config, layer: int) -> Block:
    if layer < c.number("num_dense_layers"):
        return sandwich_norm(c, attention(c, layer), dense(c))
    experts = moe(
        c.hidden_size,
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=True,
        correction_tag="main",
        shared_ffn=c.number("num_shared_experts") * c.moe_intermediate_size,
    )
    return sandwich_norm(c, attention(c, layer), experts)
