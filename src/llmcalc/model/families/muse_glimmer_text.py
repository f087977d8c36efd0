"""Muse Glimmer, the text model: three windows to a full layer, gated attention, four norms a layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import gemma2
from llmcalc.model.families._blocks import dense, grouped, sandwich_norm, windowed
from llmcalc.model.layers import Block, projection

NAMES = {**gemma2.NAMES, "output_gate": "self_attn.gate_proj"}


def block(c: Config, layer: int) -> Block:
    c.read |= {"layer_rope_theta"}
    bias, window = c.flag("attention_bias"), c.window()
    window = window if windowed(c, layer, "sliding_window_pattern") else None
    attention = grouped(c, bias=bias, out_bias=bias, window=window)
    width = c.num_attention_heads * c.head_dim
    attention += projection("output_gate", width, c.hidden_size, bias, out_axis="heads")
    return sandwich_norm(c, attention, dense(c))
