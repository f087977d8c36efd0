"""DBRX: fused query, key and value, LayerNorms without bias; four of sixteen experts, in joint matrices."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import nested, pre_norm
from llmcalc.model.layers import Block, gqa
from llmcalc.model.layers.variants import stacked_experts

PREFIX = "transformer.blocks.{layer}"
NAMES = {
    "embedding": "transformer.wte",
    "attn_norm": "norm_attn_norm.norm_1",
    "qkv": "norm_attn_norm.attn.Wqkv",
    "output": "norm_attn_norm.attn.out_proj",
    "ffn_norm": "norm_attn_norm.norm_2",
    "router": "ffn.router.layer",
    "expert_gate": "ffn.experts.mlp.w1",
    "expert_up": "ffn.experts.mlp.v1",
    "expert_down": "ffn.experts.mlp.w2",
    "final_norm": "transformer.norm_f",
}
GGUF_NAMES = {"ffn_norm": "attn_output_norm"}


def block(c: Config, layer: int) -> Block:
    attention, ffn = nested(c, "attn_config"), nested(c, "ffn_config")
    return pre_norm(
        c,
        gqa(c.hidden_size, c.num_attention_heads, attention.size("kv_n_heads"), c.head_dim, fused=True),
        stacked_experts(
            c.hidden_size, ffn.size("moe_num_experts"), ffn.size("moe_top_k"), ffn.size("ffn_hidden_size")
        ),
    )
