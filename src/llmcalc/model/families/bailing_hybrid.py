"""Ling 3: layers of Kimi Delta Attention with latent attention between, both gated; experts after the first.

The query has no low-rank pair, whatever `q_lora_rank` says.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families import kimi_linear
from llmcalc.model.families._blocks import dense, pre_norm
from llmcalc.model.layers import Block, mla, moe, norm, projection
from llmcalc.model.layers.hybrid import kimi_delta

NAMES = {
    **{role: name.replace("self_attn.", "attention.") for role, name in kimi_linear.NAMES.items()},
    "embedding": "model.word_embeddings",
    "delta_forget": "attention.f_proj",
    "delta_gate": "attention.g_proj",
    "delta_out": "attention.dense",
    "query": "attention.q_proj",
    "kv_a": "attention.kv_a_proj_with_mqa",
    "kv_a_norm": "attention.kv_a_layernorm",
    "kv_b": "attention.kv_b_proj",
    "output": "attention.dense",
    "output_gate": "attention.g_proj",
    "router": "mlp.gate",
    "router_correction": "mlp.gate.expert_bias",
    "expert_gate": "mlp.experts.{expert}.gate_proj",
    "expert_up": "mlp.experts.{expert}.up_proj",
    "expert_down": "mlp.experts.{expert}.down_proj",
    "shared_gate": "mlp.shared_experts.gate_proj",
    "shared_up": "mlp.shared_experts.up_proj",
    "shared_down": "mlp.shared_experts.down_proj",
}


def is_linear(c: Config, layer: int) -> bool:
    kinds = c.layer_types("layer_group_size", known=("full_attention", "linear_attention"))
    if kinds is not None:
        return kinds[layer] == "linear_attention"
    return (layer + 1) % c.pattern("layer_group_size") != 0


def attention(c: Config) -> Block:
    heads = c.num_attention_heads
    latent = mla(
        c.hidden_size,
        heads,
        c.kv_lora_rank,
        c.qk_nope_head_dim,
        c.qk_rope_head_dim,
        c.v_head_dim,
        bias=c.flag("attention_bias"),
    )
    return latent + projection("output_gate", heads, c.hidden_size, out_axis="heads")


def mixer(c: Config, layer: int) -> Block:
    c.read |= {"q_lora_rank", "num_key_value_heads", "head_dim", "short_conv_kernel_size"}
    if not is_linear(c, layer):
        return attention(c)
    kernel = c.size("short_conv_kernel_size")
    return kimi_delta(c.hidden_size, c.num_attention_heads, c.head_dim, kernel, state=c.state_dtype())


def feed_forward(c: Config, layer: int) -> Block:
    c.read |= {"n_routed_experts"}
    if layer < c.number("first_k_dense_replace"):
        return dense(c)
    return moe(
        c.hidden_size,
        c.size("num_local_experts"),
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=True,
        shared_ffn=kimi_linear.shared_experts(c) * int(c.moe_intermediate_size),
    )


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, mixer(c, layer), feed_forward(c, layer))


def mtp(c: Config) -> tuple[int, Block]:
    """A layer of latent attention and experts, after a projection of hidden state and embedding."""
    width, after = c.hidden_size, c.num_hidden_layers
    module = (
        norm("embedding_norm", width)
        + norm("hidden_norm", width)
        + projection("projection", width, 2 * width)
        + pre_norm(c, attention(c), feed_forward(c, after))
        + norm("final_norm", width)
    )
    count = c.number("num_nextn_predict_layers", stated_only=True)
    return count or c.number("num_mtp_layers", stated_only=True), module


def split(c: Config) -> dict[str, int]:
    return {"attention heads": c.num_attention_heads}
