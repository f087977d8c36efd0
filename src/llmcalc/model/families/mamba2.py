"""Mamba 2: one norm and one state-space mixer a layer; no attention, no KV cache."""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers import mamba2 as mixer

PREFIX = "backbone.layers.{layer}"
CHECK = ("num_heads", "head_dim")
NAMES = {
    "embedding": "backbone.embeddings",
    "mixer_norm": "norm",
    "ssm_in": "mixer.in_proj",
    "conv": "mixer.conv1d",
    "dt_bias": "mixer.dt_bias",
    "a_log": "mixer.A_log",
    "skip": "mixer.D",
    "ssm_norm": "mixer.norm",
    "ssm_out": "mixer.out_proj",
    "final_norm": "backbone.norm_f",
}


def block(c: Config, layer: int) -> Block:
    heads, width = c.size("num_heads"), c.size("head_dim")
    if c.lookup("expand") is not None and heads * width != c.size("expand") * c.hidden_size:
        raise ConfigError(
            f"{c.label}: num_heads {heads} x head_dim {width} is not "
            f"expand {c.expand} x hidden_size {c.hidden_size}.",
            "Make them agree.",
        )
    return norm("mixer_norm", c.hidden_size) + mixer(
        c.hidden_size,
        heads,
        width,
        c.size("n_groups"),
        c.size("state_size"),
        c.size("conv_kernel"),
        bias=c.flag("use_bias"),
        conv_bias=c.flag("use_conv_bias", True),
        state=c.state_dtype(),
    )


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size) + unembed(c)


def split(c: Config) -> dict[str, int]:
    return {"state heads": c.size("num_heads")}
