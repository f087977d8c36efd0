"""Qwen 1.5 and 2 MoE: Qwen2's attention; routed experts beside a gated shared one."""

from llmcalc.model.configuration import Config
from llmcalc.model.families.qwen2 import window
from llmcalc.model.layers import Block, gqa, mlp, moe, norm

NAMES = {
    "shared_gate": "mlp.shared_expert.gate_proj",
    "shared_up": "mlp.shared_expert.up_proj",
    "shared_down": "mlp.shared_expert.down_proj",
}


def sparse(c: Config, layer: int) -> bool:
    step = c.size("decoder_sparse_step", 1)
    c.lookup("num_experts")
    return layer not in c.indices("mlp_only_layers") and c.num_experts > 0 and (layer + 1) % step == 0


def feed_forward(c: Config, layer: int) -> Block:
    if not sparse(c, layer):
        return mlp(c.hidden_size, c.intermediate_size)
    c.read.add("intermediate_size")
    return moe(
        c.hidden_size,
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        shared_ffn=c.shared_expert_intermediate_size,
        shared_gate=True,
    )


def block(c: Config, layer: int) -> Block:
    bias = c.flag("qkv_bias", True)
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(
            c.hidden_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            bias=bias,
            window=window(c, layer),
        )
        + norm("ffn_norm", c.hidden_size)
        + feed_forward(c, layer)
    )
