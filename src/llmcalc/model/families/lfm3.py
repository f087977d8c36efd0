"""LFM3: short convolutions, and gated attention that is full in one of four layers, a window in another."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import lfm2
from llmcalc.model.families._blocks import dense, grouped, pre_norm, sandwich_norm
from llmcalc.model.families.lfm2 import GGUF_NAMES, head
from llmcalc.model.layers import Block, projection
from llmcalc.model.layers.hybrid import short_convolution

__all__ = ["GGUF_NAMES", "NAMES", "block", "head"]

NAMES = {
    **lfm2.NAMES,
    "post_attn_norm": "post_operator_norm",
    "post_ffn_norm": "post_ffn_norm",
    "output": "self_attn.o_proj",
    "output_gate": "self_attn.gate_proj",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
}
KINDS = ("conv", "full_attention", "sliding_attention")


def kind(c: Config, layer: int) -> str:
    """As listed; else the third of four layers is full and the first, but for the very first, a window."""
    kinds = c.layer_types(known=KINDS)
    if kinds is not None:
        return kinds[layer]
    c.unproven["layer_types"] = f"{c.label} does not list layer_types; the usual pattern is assumed"
    if layer % 4 == 2:
        return "full_attention"
    return "sliding_attention" if layer and layer % 4 == 0 else "conv"


def mixer(c: Config, layer: int) -> Block:
    word = kind(c, layer)
    if word == "conv":
        return short_convolution(c.hidden_size, c.size("conv_L_cache"), bias=c.flag("conv_bias"))
    bias = c.flag("attention_bias")
    window = c.window() if word == "sliding_attention" else None
    attention = grouped(c, bias=bias, out_bias=bias, qk_norm="head", window=window)
    if c.flag("use_attention_gate", True):
        attention += projection("output_gate", c.num_attention_heads, c.hidden_size, out_axis="heads")
    return attention


def block(c: Config, layer: int) -> Block:
    c.read |= {"sliding_window"}
    norms = sandwich_norm if c.flag("use_sandwich_norm", True) else pre_norm
    return norms(c, mixer(c, layer), dense(c))
