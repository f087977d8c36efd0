"""Falcon-H1: attention and a Mamba-2 mixer side by side in every layer, so both caches in each."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.families._hybrid import head_width
from llmcalc.model.layers import Block, mamba2, norm

NAMES = {
    "ssm_in": "mamba.in_proj",
    "conv": "mamba.conv1d",
    "dt_bias": "mamba.dt_bias",
    "a_log": "mamba.A_log",
    "skip": "mamba.D",
    "ssm_norm": "mamba.norm",
    "ssm_out": "mamba.out_proj",
    "gate": "feed_forward.gate_proj",
    "up": "feed_forward.up_proj",
    "down": "feed_forward.down_proj",
    "ffn_norm": "pre_ff_layernorm",
    "final_norm": "model.final_layernorm",
}


def mixer(c: Config) -> Block:
    heads = c.size("mamba_n_heads")
    inner = c.optional("mamba_d_ssm") or c.size("mamba_expand") * int(c.hidden_size)
    c.read |= {"mamba_expand"}
    return mamba2(
        c.hidden_size,
        heads,
        head_width(c, "mamba_d_head", inner, heads),
        c.size("mamba_n_groups"),
        c.size("mamba_d_state"),
        c.size("mamba_d_conv"),
        bias=c.flag("mamba_proj_bias"),
        out_bias=c.flag("projectors_bias"),
        conv_bias=c.flag("mamba_conv_bias", True),
        gate_norm=c.flag("mamba_rms_norm"),
        state=c.state_dtype(),
    )


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    attention = grouped(c, bias=bias, out_bias=bias)
    return pre_norm(c, mixer(c) + attention, dense(c, bias=c.flag("mlp_bias")))


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size) + unembed(c)


def split(c: Config) -> dict[str, int]:
    return {"attention heads": c.num_attention_heads, "state heads": c.size("mamba_n_heads")}
