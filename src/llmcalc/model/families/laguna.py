"""Laguna: gated attention whose heads differ by layer; windows where listed; experts with a shared one."""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families._blocks import at, dense, each, pre_norm
from llmcalc.model.layers import Block, gqa, moe, projection

NAMES = {
    "attn_gate": "self_attn.g_proj",
    "router_correction": "mlp.experts.e_score_correction_bias",
    "shared_gate": "mlp.shared_expert.gate_proj",
    "shared_up": "mlp.shared_expert.up_proj",
    "shared_down": "mlp.shared_expert.down_proj",
}


def attention(c: Config, layer: int) -> Block:
    heads, kv_heads = (
        at(c, "num_attention_heads_per_layer", layer, c.num_attention_heads),
        c.num_key_value_heads,
    )
    if heads % kv_heads:
        raise ConfigError(
            f"{c.label}: layer {layer} has {heads} heads, no multiple of {kv_heads} KV heads.",
            "Correct num_attention_heads_per_layer.",
        )
    kinds, window, bias = c.layer_types(), c.window(), c.flag("attention_bias")
    if kinds is None and window is not None:
        c.unproven["layer_types"] = f"{c.label} does not say layer_types; full attention is assumed"
    window = window if kinds is not None and kinds[layer] == "sliding_attention" else None
    made = gqa(
        c.hidden_size, heads, kv_heads, c.head_dim, bias=bias, out_bias=bias, qk_norm="head", window=window
    )
    gates = heads if c.lookup("gating") in ("per-head", True, MISSING) else heads * c.head_dim
    return made + projection("attn_gate", gates, c.hidden_size, out_axis="heads")


def is_sparse(c: Config, layer: int) -> bool:
    kinds = each(c, "mlp_layer_types", "dense", "sparse")
    only = c.indices("mlp_only_layers")
    if kinds is not None:
        return bool(kinds[layer] == "sparse")
    return layer not in only if "mlp_only_layers" in c.raw else layer > 0


def block(c: Config, layer: int) -> Block:
    c.read.add("intermediate_size")
    if not is_sparse(c, layer):
        return pre_norm(c, attention(c, layer), dense(c))
    experts = moe(
        c.hidden_size,
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=True,
        correction_tag="main",
        shared_ffn=c.number("shared_expert_intermediate_size"),
    )
    return pre_norm(c, attention(c, layer), experts)
