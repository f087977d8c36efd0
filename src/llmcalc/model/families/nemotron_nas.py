"""Llama-Nemotron Super and Ultra, found by architecture search: every block has its own shape.

Its own KV heads and MLP width, or no attention, or no MLP, or a plain matrix in the place of one.
"""

from collections.abc import Mapping
from typing import Any

from llmcalc.errors import ConfigError
from llmcalc.formula import ceil_div
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.layers import Block, gqa, mlp, norm, projection

NAMES = {"linear_attention": "self_attn.linear_attn", "linear_mlp": "mlp.linear_mlp"}
WIDTH_MULTIPLE = 256
"""MLP widths are rounded up to this."""


def stated(c: Config, layer: int, part: str) -> Mapping[str, Any]:
    """What `block_configs` says of the attention or the MLP of one layer."""
    blocks = c.lookup("block_configs")
    if blocks is MISSING or not isinstance(blocks, list) or len(blocks) < c.num_hidden_layers:
        raise ConfigError(
            f"{c.label}: block_configs does not list {c.num_hidden_layers} blocks.", "Give the complete file."
        )
    found = blocks[layer].get(part) if isinstance(blocks[layer], dict) else None
    if not isinstance(found, dict):
        raise ConfigError(f"{c.label}: block {layer} has no {part}.", "Give the complete file.")
    return found


def attention(c: Config, layer: int) -> Block:
    said = stated(c, layer, "attention")
    if said.get("no_op"):
        return ()
    before = norm("attn_norm", c.hidden_size)
    if said.get("replace_with_linear"):
        return before + projection("linear_attention", c.hidden_size, c.hidden_size)
    heads, in_group = c.num_attention_heads, said.get("n_heads_in_group")
    if not isinstance(in_group, int) or in_group < 1 or heads % in_group:
        raise ConfigError(
            f"{c.label}: block {layer} has {in_group!r} heads in a group, of {heads}.",
            "Correct n_heads_in_group.",
        )
    bias, window = c.flag("attention_bias"), said.get("window_length")
    window = None if window is None else c._checked("window_length", window)
    return before + gqa(
        c.hidden_size, heads, heads // in_group, c.head_dim, bias=bias, out_bias=bias, window=window
    )


def feed_forward(c: Config, layer: int) -> Block:
    said = stated(c, layer, "ffn")
    if said.get("no_op"):
        return ()
    before = norm("ffn_norm", c.hidden_size)
    if said.get("replace_with_linear"):
        return before + projection("linear_mlp", c.hidden_size, c.hidden_size)
    factor = said.get("ffn_mult")
    if not isinstance(factor, (int, float)) or not 0 < factor <= 1000:
        raise ConfigError(f"{c.label}: block {layer} has ffn_mult {factor!r}.", "Correct ffn_mult.")
    width = ceil_div(int(2 * factor * c.hidden_size / 3), WIDTH_MULTIPLE) * WIDTH_MULTIPLE
    return before + mlp(c.hidden_size, width, bias=c.flag("mlp_bias"))


def block(c: Config, layer: int) -> Block:
    return attention(c, layer) + feed_forward(c, layer)
