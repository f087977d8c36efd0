"""Mamba 1: one norm and one state-space mixer a layer; no attention, no KV cache."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._hybrid import rank
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.hybrid import mamba1

PREFIX = "backbone.layers.{layer}"
CHECK = ("state_size", "conv_kernel")
NAMES = {
    "embedding": "backbone.embeddings",
    "mixer_norm": "norm",
    "ssm_in": "mixer.in_proj",
    "conv": "mixer.conv1d",
    "ssm_x": "mixer.x_proj",
    "ssm_dt": "mixer.dt_proj",
    "a_log": "mixer.A_log",
    "skip": "mixer.D",
    "ssm_out": "mixer.out_proj",
    "final_norm": "backbone.norm_f",
}


def inner(c: Config) -> int:
    """Channels of the mixer: `expand` times the width where the configuration does not state them."""
    c.read |= {"expand"}
    return c.optional("intermediate_size") or c.size("expand") * int(c.hidden_size)


def block(c: Config, layer: int) -> Block:
    return norm("mixer_norm", c.hidden_size) + mamba1(
        c.hidden_size,
        inner(c),
        c.size("state_size"),
        rank(c, "time_step_rank"),
        c.size("conv_kernel"),
        bias=c.flag("use_bias"),
        conv_bias=c.flag("use_conv_bias", True),
        state=c.state_dtype(),
    )


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size) + unembed(c)


def split(c: Config) -> dict[str, int]:
    return {"state channels": inner(c)}
