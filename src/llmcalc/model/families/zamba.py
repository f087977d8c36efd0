"""Zamba: Mamba-1 layers, and one transformer block that is stored once and runs at every sixth layer.

The block reads the hidden state beside the embedding, so it is twice as wide; a matrix of each such
layer brings its output back to the Mamba layer.
"""

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import _hybrid, unembed
from llmcalc.model.families._blocks import dense
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, norm, projection
from llmcalc.model.layers.hybrid import mamba1, wide_attention

LAYER = "model.layers.{layer}."
NAMES = {
    "mixer_norm": "input_layernorm",
    "ssm_in": "mamba.in_proj",
    "conv": "mamba.conv1d",
    "ssm_x": "mamba.x_proj_weight",
    "ssm_dt": "mamba.dt_proj_weight",
    "ssm_dt_bias": "mamba.dt_proj_bias",
    "a_log": "mamba.A_log",
    "skip": "mamba.D",
    "ssm_out": "mamba.out_proj",
    "final_norm": "model.final_layernorm",
}
SHARED_NAMES = {
    "gate": "feed_forward.gate_proj",
    "up": "feed_forward.up_proj",
    "down": "feed_forward.down_proj",
    "ffn_norm": "pre_ff_layernorm",
}


def kinds(c: Config) -> tuple[str, ...]:
    """By the list, or by the period that Zamba's makers published: the third layer, then every sixth."""
    stated = _hybrid.layer_kinds(c, "layers_block_type", "layer_types")
    period, offset = c.pattern("attn_layer_period", known=6), c.number("attn_layer_offset", 4)
    if stated is not None:
        return stated
    return tuple(
        "hybrid" if layer == 2 or (layer > 2 and (layer - 3) % period == offset) else "linear"
        for layer in range(c.num_hidden_layers)
    )


def mixer(c: Config) -> Block:
    inner, heads = c.size("mamba_expand") * int(c.hidden_size), c.size("n_mamba_heads")
    if inner % heads:
        raise ConfigError(
            f"{c.label}: the inner width {inner} is no multiple of n_mamba_heads {heads}.",
            "Correct one of the two.",
        )
    return norm("mixer_norm", c.hidden_size) + mamba1(
        c.hidden_size,
        inner,
        c.size("mamba_d_state"),
        _hybrid.rank(c, "mamba_dt_rank"),
        c.size("mamba_d_conv"),
        heads=heads,
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias", True),
        state=c.state_dtype(),
    )


def attention(c: Config) -> Block:
    width = c.optional("attention_hidden_size") or 2 * c.hidden_size
    size = c.optional("attention_head_dim") or 2 * c.hidden_size // c.num_attention_heads
    return norm("attn_norm", width) + wide_attention(
        c.hidden_size, width, c.num_attention_heads, c.num_key_value_heads, size
    )


def describe(c: Config, catalog: Catalog) -> list[Group]:
    c.check("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "intermediate_size")
    named = kinds(c)
    plain = [layer for layer, kind in enumerate(named) if kind != "hybrid"]
    joint = [layer for layer, kind in enumerate(named) if kind == "hybrid"]
    inside = {role: f"mamba_decoder.{name}" for role, name in NAMES.items()}
    hybrid = mixer(c) + projection("mixing", c.hidden_size, c.hidden_size)
    block = attention(c) + norm("ffn_norm", c.hidden_size) + dense(c)
    head = norm("final_norm", c.hidden_size) + unembed(c)
    groups = [
        families.outside("text", "embedding", embedding(c.vocab_size, c.hidden_size)),
        _hybrid.shared(NAMES, LAYER, plain, mixer(c)),
        _hybrid.shared({**inside, "mixing": "linear"}, LAYER, joint, hybrid),
        _hybrid.shared(SHARED_NAMES, f"{LAYER}shared_transf.", joint, block, 1),
        families.outside("text", "head", head, names=NAMES),
    ]
    return [group for group in groups if group.place != "layer" or group.layers]
