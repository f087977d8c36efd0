"""Granite 4: Mamba-2 layers with attention in a few, and a shared MLP with or without routed experts."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families._hybrid import head_width, stated_kinds
from llmcalc.model.layers import Block, mamba2, mlp
from llmcalc.model.layers import moe as experts

NAMES = {
    "ssm_in": "mamba.in_proj",
    "conv": "mamba.conv1d",
    "dt_bias": "mamba.dt_bias",
    "a_log": "mamba.A_log",
    "skip": "mamba.D",
    "ssm_norm": "mamba.norm",
    "ssm_out": "mamba.out_proj",
    "gate_up": "shared_mlp.input_linear",
    "gguf:gate_up": "gate+up",
    "down": "shared_mlp.output_linear",
    "router": "block_sparse_moe.router.layer",
    "expert_gate_up": "block_sparse_moe.input_linear",
    "expert_down": "block_sparse_moe.output_linear",
}


def kinds(c: Config) -> tuple[str, ...]:
    return stated_kinds(c, "layer_types", "layers_block_type")


def mixer(c: Config, layer: int) -> Block:
    if kinds(c)[layer] == "full":
        bias = c.flag("attention_bias")
        return grouped(c, bias=bias, out_bias=bias)
    heads = c.size("mamba_n_heads")
    return mamba2(
        c.hidden_size,
        heads,
        head_width(c, "mamba_d_head", c.size("mamba_expand") * int(c.hidden_size), heads),
        c.size("mamba_n_groups"),
        c.size("mamba_d_state"),
        c.size("mamba_d_conv"),
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias", True),
        state=c.state_dtype(),
    )


def feed_forward(c: Config) -> Block:
    shared = mlp(c.hidden_size, c.size("shared_intermediate_size"), fused=True)
    routed = c.optional("num_local_experts")
    c.read |= {"num_experts_per_tok", "intermediate_size"}
    if not routed:
        return shared
    return (
        experts(c.hidden_size, routed, c.num_experts_per_tok, c.intermediate_size, fused=True, upright=True)
        + shared
    )


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, mixer(c, layer), feed_forward(c))


def split(c: Config) -> dict[str, int]:
    units = {"attention heads": c.num_attention_heads}
    return units if "linear" not in kinds(c) else {**units, "state heads": c.size("mamba_n_heads")}
