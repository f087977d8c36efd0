"""Jamba: seven Mamba-1 layers to one of attention, and experts in every other layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.families._hybrid import layer_kinds, rank
from llmcalc.model.layers import Block, moe, norm
from llmcalc.model.layers.hybrid import mamba1

NAMES = {
    "ssm_in": "mamba.in_proj",
    "conv": "mamba.conv1d",
    "ssm_x": "mamba.x_proj",
    "ssm_dt": "mamba.dt_proj",
    "dt_norm": "mamba.dt_layernorm",
    "b_norm": "mamba.b_layernorm",
    "c_norm": "mamba.c_layernorm",
    "a_log": "mamba.A_log",
    "skip": "mamba.D",
    "ssm_out": "mamba.out_proj",
    "ffn_norm": "pre_ff_layernorm",
    "gate": "feed_forward.gate_proj",
    "up": "feed_forward.up_proj",
    "down": "feed_forward.down_proj",
    "router": "feed_forward.router",
    "expert_gate": "feed_forward.experts.{expert}.gate_proj",
    "expert_up": "feed_forward.experts.{expert}.up_proj",
    "expert_down": "feed_forward.experts.{expert}.down_proj",
    "final_norm": "model.final_layernorm",
}


def has_attention(c: Config, layer: int) -> bool:
    """By a list of layers, or every eighth from the fifth on (Jamba: Lieber et al., 2024, section 3)."""
    kinds = layer_kinds(c, "layers_block_type", "layer_types")
    period, offset = c.pattern("attn_layer_period", known=8), c.number("attn_layer_offset", 4)
    return kinds[layer] == "full" if kinds else layer % period == offset


def inner(c: Config) -> int:
    return c.size("mamba_expand") * int(c.hidden_size)


def mixer(c: Config, layer: int) -> Block:
    if has_attention(c, layer):
        return grouped(c)
    return mamba1(
        c.hidden_size,
        inner(c),
        c.size("mamba_d_state"),
        rank(c, "mamba_dt_rank"),
        c.size("mamba_d_conv"),
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias", True),
        norms=True,
        state=c.state_dtype(),
    )


def feed_forward(c: Config, layer: int) -> Block:
    period, offset = c.pattern("expert_layer_period", known=2), c.number("expert_layer_offset", 1)
    experts, active = c.optional("num_experts") or 1, c.size("num_experts_per_tok")
    if layer % period != offset or experts == 1:
        return dense(c)
    return moe(c.hidden_size, experts, active, c.intermediate_size)


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, mixer(c, layer), feed_forward(c, layer))


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size) + unembed(c)


def split(c: Config) -> dict[str, int]:
    return {"attention heads": c.num_attention_heads, "state channels": inner(c)}
