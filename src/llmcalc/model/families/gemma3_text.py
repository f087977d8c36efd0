"""Gemma 3, the text model: five windows to one full layer, q/k norms, four norms a layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families.gemma2 import NAMES, sandwiched
from llmcalc.model.layers import Block, gqa

__all__ = ["NAMES", "block"]

INTERVAL = ("sliding_window_pattern", "_sliding_window_pattern")
PATTERN = 6
"""Every sixth layer is full: Gemma 3 technical report, 2025, section 2."""


def windowed(c: Config, layer: int) -> bool:
    kinds = c.layer_types(*INTERVAL)
    if kinds is not None:
        return kinds[layer] == "sliding_attention"
    return (layer + 1) % c.pattern(*INTERVAL, known=PATTERN) != 0


def block(c: Config, layer: int) -> Block:
    window = c.window()
    bias = c.flag("attention_bias")
    return sandwiched(
        c,
        gqa(
            c.hidden_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            bias=bias,
            out_bias=bias,
            qk_norm="head",
            window=window if windowed(c, layer) else None,
        ),
    )
