"""Gemma 3, the text model: five windows to one full layer, q/k norms, four norms a layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, sandwich_norm
from llmcalc.model.families.gemma2 import NAMES
from llmcalc.model.layers import Block

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
    window, bias = c.window(), c.flag("attention_bias")
    window = window if windowed(c, layer) else None
    return sandwich_norm(c, grouped(c, bias=bias, out_bias=bias, qk_norm="head", window=window), dense(c))
