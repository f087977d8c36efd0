"""Gemma 2: a window in every other layer, the first included; four norms a layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, sandwich_norm
from llmcalc.model.layers import Block

NAMES = {
    "post_attn_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffn_norm": "post_feedforward_layernorm",
}


def block(c: Config, layer: int) -> Block:
    kinds = c.layer_types()  # files older than the key alternate, the window first
    windowed = kinds[layer] == "sliding_attention" if kinds else layer % 2 == 0
    window, bias = c.window(), c.flag("attention_bias")
    attention = grouped(c, bias=bias, out_bias=bias, window=window if windowed else None)
    return sandwich_norm(c, attention, dense(c))
