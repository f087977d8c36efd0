"""Kimi Linear: three layers of Kimi Delta Attention to one of latent attention; experts after the first.

Kimi K3's text model is built of the same layers, with more: full-rank gates, experts at a narrower
"latent" width, and a weighted sum over the outputs of earlier blocks before each half of a layer.
"""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, pre_norm
from llmcalc.model.layers import Block, mla, moe, norm, projection
from llmcalc.model.layers.hybrid import kimi_delta

NAMES = {
    "delta_query": "self_attn.q_proj",
    "delta_key": "self_attn.k_proj",
    "delta_value": "self_attn.v_proj",
    "conv_query": "self_attn.q_conv1d",
    "conv_key": "self_attn.k_conv1d",
    "conv_value": "self_attn.v_conv1d",
    "delta_forget_a": "self_attn.f_a_proj",
    "delta_forget_b": "self_attn.f_b_proj",
    "delta_gate_a": "self_attn.g_a_proj",
    "delta_gate_b": "self_attn.g_b_proj",
    "delta_gate": "self_attn.g_proj",
    "output_gate": "self_attn.g_proj",
    "delta_b": "self_attn.b_proj",
    "dt_bias": "self_attn.dt_bias",
    "a_log": "self_attn.A_log",
    "delta_norm": "self_attn.o_norm",
    "delta_out": "self_attn.o_proj",
    "router": "block_sparse_moe.gate",
    "router_correction": "block_sparse_moe.gate.e_score_correction_bias",
    "latent_down": "block_sparse_moe.routed_expert_down_proj",
    "latent_norm": "block_sparse_moe.routed_expert_norm",
    "latent_up": "block_sparse_moe.routed_expert_up_proj",
    "attn_residual": "self_attention_res_proj",
    "attn_residual_norm": "self_attention_res_norm",
    "ffn_residual": "mlp_res_proj",
    "ffn_residual_norm": "mlp_res_norm",
    "last_residual": "model.output_attn_res_proj",
    "last_residual_norm": "model.output_attn_res_norm",
    "expert_gate": "block_sparse_moe.experts.{expert}.w1",
    "expert_up": "block_sparse_moe.experts.{expert}.w3",
    "expert_down": "block_sparse_moe.experts.{expert}.w2",
    "shared_gate": "block_sparse_moe.shared_experts.gate_proj",
    "shared_up": "block_sparse_moe.shared_experts.up_proj",
    "shared_down": "block_sparse_moe.shared_experts.down_proj",
}

GGUF_NAMES = {"delta_out": "attn_output"}


def linear(c: Config) -> Config:
    """The part about the delta layers: an object of its own in the checkpoint's file, or flat keys."""
    if "_linear" not in c.__dict__:
        stated = c.lookup("linear_attn_config")
        c.__dict__["_linear"] = c if stated in (MISSING, None) else c.part("linear_attn_config", None)
    part: Config = c.__dict__["_linear"]
    return part


def is_linear(c: Config, layer: int) -> bool:
    """By `layer_types`, or by the lists of layers, which count from one."""
    known = c.layer_types(known=("full_attention", "linear_attention"))
    part = linear(c)
    if part is c:
        if known is None:
            raise ConfigError(
                f"{c.label} does not say which layers have full attention.", 'Add "layer_types" to it.'
            )
        return known[layer] == "linear_attention"
    if "_lists" not in c.__dict__:
        c.__dict__["_lists"] = part.indices("full_attn_layers"), part.indices("kda_layers")
    full, delta = c.__dict__["_lists"]
    if known is not None:
        return known[layer] == "linear_attention"
    if (layer + 1 in full) == (layer + 1 in delta):
        raise ConfigError(
            f"{c.label}: linear_attn_config names layer {layer + 1} in both lists or in none.", "Correct it."
        )
    return bool(layer + 1 in delta)


def delta_sizes(c: Config) -> tuple[int, int, int]:
    """Heads, their width, and the convolution's kernel."""
    part = linear(c)
    if part is c:
        return c.size("linear_num_heads"), c.size("linear_head_dim"), c.size("linear_conv_kernel_dim")
    return part.size("num_heads"), part.size("head_dim"), part.size("short_conv_kernel_size")


def mixer(c: Config, layer: int) -> Block:
    if not is_linear(c, layer):
        c.read |= {"head_dim", "num_key_value_heads"}
        latent = mla(
            c.hidden_size,
            c.num_attention_heads,
            c.kv_lora_rank,
            c.qk_nope_head_dim,
            c.qk_rope_head_dim,
            c.v_head_dim,
            q_rank=c.optional("q_lora_rank"),
            bias=c.flag("attention_bias"),
        )
        if not c.flag("mla_use_output_gate"):
            return latent
        width = c.num_attention_heads * c.v_head_dim
        return latent + projection("output_gate", width, c.hidden_size, out_axis="heads")
    heads, width, kernel = delta_sizes(c)
    full_rank = linear(c).flag("use_full_rank_gate")
    return kimi_delta(
        c.hidden_size,
        heads,
        width,
        kernel,
        forget_rank=width,
        gate_rank=0 if full_rank else width,
        # K3 stores 128 for its 96 heads, Kimi Linear the axes that they are broadcast over
        log_shape=(width,) if full_rank else (1, 1, heads, 1),
        state=c.state_dtype(),
    )


def is_sparse(c: Config, layer: int) -> bool:
    frequency = c.optional("moe_layer_freq") or 1
    return layer >= c.number("first_k_dense_replace", 1) and layer % frequency == 0


def shared_experts(c: Config) -> int:
    stated = c.number("num_shared_experts") if "num_shared_experts" in c.raw else -1
    return stated if stated >= 0 else c.number("n_shared_experts")


def feed_forward(c: Config, layer: int) -> Block:
    c.read |= {"n_routed_experts", "n_shared_experts"}
    if not is_sparse(c, layer):
        return dense(c)
    return moe(
        c.hidden_size,
        c.size("num_local_experts"),
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=True,
        shared_ffn=shared_experts(c) * int(c.moe_intermediate_size),
        latent=c.optional("routed_expert_hidden_size") or 0,
        latent_norm=c.flag("latent_moe_use_norm"),
    )


def residual(c: Config, place: str) -> Block:
    """Weights of the sum over earlier blocks: a norm and one score for each of their outputs."""
    if not c.optional("attn_res_block_size"):
        return ()
    score = projection(f"{place}_residual", 1, c.hidden_size, out_axis="one")
    return norm(f"{place}_residual_norm", c.hidden_size) + score


def block(c: Config, layer: int) -> Block:
    c.read |= {"num_nextn_predict_layers"}
    whole = pre_norm(c, mixer(c, layer), feed_forward(c, layer))
    return whole + residual(c, "attn") + residual(c, "ffn")


def head(c: Config, outer: Config | None = None) -> Block:
    return residual(c, "last") + norm("final_norm", c.hidden_size) + unembed(c, outer)


def split(c: Config) -> dict[str, int]:
    return {"attention heads": c.num_attention_heads, "linear heads": delta_sizes(c)[0]}
