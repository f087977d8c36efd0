"""Qwen3.5 to 3.8, the text model: three Gated DeltaNet layers to one of gated full attention, dense MLP."""

import sys
from collections.abc import Callable, Mapping

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import _hybrid
from llmcalc.model.families._blocks import dense, pre_norm
from llmcalc.model.families.qwen3 import attention
from llmcalc.model.families.qwen3_next import is_linear, split
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm, projection
from llmcalc.model.layers.hybrid import delta_net

__all__ = ["GGUF_NAMES", "NAMES", "block", "describe", "feed_forward", "mixer", "prediction", "split"]

NAMES = {
    "delta_qkv": "linear_attn.in_proj_qkv",
    "delta_gate": "linear_attn.in_proj_z",
    "delta_b": "linear_attn.in_proj_b",
    "delta_a": "linear_attn.in_proj_a",
    "conv": "linear_attn.conv1d",
    "dt_bias": "linear_attn.dt_bias",
    "a_log": "linear_attn.A_log",
    "delta_norm": "linear_attn.norm",
    "delta_out": "linear_attn.out_proj",
}
GGUF_NAMES = {"ffn_norm": "post_attention_norm"}
MTP_NAMES = {
    "projection": "fc",
    "embedding_norm": "pre_fc_norm_embedding",
    "hidden_norm": "pre_fc_norm_hidden",
    "final_norm": "norm",
    "gguf:ffn_norm": GGUF_NAMES["ffn_norm"],
}


def mixer(c: Config, layer: int) -> Block:
    if not is_linear(c, layer):
        return attention(c, layer, gated=c.flag("attn_output_gate", True))
    return delta_net(
        c.hidden_size,
        c.linear_num_key_heads,
        c.linear_num_value_heads,
        c.linear_key_head_dim,
        c.linear_value_head_dim,
        c.linear_conv_kernel_dim,
        state=c.state_dtype(),
    )


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, mixer(c, layer), dense(c))


def prediction(
    c: Config, feed_forward: Callable[[Config, int], Block], names: Mapping[str, str]
) -> list[Group]:
    """The prediction module: a full-attention layer after a projection of hidden state and embedding."""
    width, after = c.hidden_size, c.num_hidden_layers
    around = (
        projection("projection", width, 2 * width)
        + norm("embedding_norm", width)
        + norm("hidden_norm", width)
        + norm("final_norm", width)
    )
    full = attention(c, after, gated=c.flag("attn_output_gate", True))
    layer = pre_norm(c, full, feed_forward(c, after))
    return _hybrid.prediction(c, "mtp_num_hidden_layers", around, (layer,), "mtp.", {**names, **MTP_NAMES})


def feed_forward(c: Config, layer: int) -> Block:
    return dense(c)


def describe(c: Config, catalog: Catalog) -> list[Group]:
    return families.decoder(sys.modules[__name__], c) + prediction(c, feed_forward, NAMES)
