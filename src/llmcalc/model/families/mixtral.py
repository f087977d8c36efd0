"""Mixtral: Mistral's attention, and routed experts in the place of the MLP."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, moe, norm

NAMES = {
    "router": "block_sparse_moe.gate",
    "expert_gate": "block_sparse_moe.experts.{expert}.w1",
    "expert_up": "block_sparse_moe.experts.{expert}.w3",
    "expert_down": "block_sparse_moe.experts.{expert}.w2",
}


def block(c: Config, layer: int) -> Block:
    window = c.window()
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, window=window)
        + norm("ffn_norm", c.hidden_size)
        + moe(c.hidden_size, c.num_local_experts, c.num_experts_per_tok, c.intermediate_size)
    )
