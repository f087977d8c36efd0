"""OLMo 3: OLMo 2's layers, three with a window to one full."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, post_norm, windowed
from llmcalc.model.families.olmo2 import NAMES
from llmcalc.model.layers import Block

__all__ = ["NAMES", "block"]


def block(c: Config, layer: int) -> Block:
    bias, window = c.flag("attention_bias"), c.window()
    window = window if windowed(c, layer, known=4) else None
    return post_norm(c, grouped(c, bias=bias, out_bias=bias, qk_norm="width", window=window), dense(c))
