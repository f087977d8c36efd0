"""dots.llm1: q/k norms per head; a dense first layer, then experts with shared ones."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families.deepseek_v2 import feed_forward
from llmcalc.model.layers import Block


def window(c: Config, layer: int) -> int | None:
    """A window where listed, else from layer `max_window_layers` on."""
    kinds, width = c.layer_types("max_window_layers"), c.window()
    windowed = kinds[layer] == "sliding_attention" if kinds else layer >= c.number("max_window_layers")
    return width if windowed else None


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    attention = grouped(c, bias=bias, out_bias=bias, qk_norm="head", window=window(c, layer))
    return pre_norm(c, attention, feed_forward(c, layer, correction=True))
