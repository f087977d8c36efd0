"""Qwen 1.5, 2 and 2.5: biases on query, key and value only.

A window counts only with `use_sliding_window`, and then only from layer `max_window_layers` on.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def window(c: Config, layer: int) -> int | None:
    if not c.flag("use_sliding_window"):
        c.read |= {"sliding_window", "max_window_layers", "layer_types"}
        return None
    kinds, width = c.layer_types("max_window_layers"), c.window()
    windowed = kinds[layer] == "sliding_attention" if kinds else layer >= c.number("max_window_layers")
    return width if windowed else None


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, grouped(c, bias=True, window=window(c, layer)), dense(c))
