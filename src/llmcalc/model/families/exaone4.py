"""EXAONE 4: norms after attention and MLP, q/k norms; the large one has three windows to a full layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, post_norm, windowed
from llmcalc.model.families.olmo2 import NAMES
from llmcalc.model.layers import Block

__all__ = ["NAMES", "block"]


def window(c: Config, layer: int) -> int | None:
    """The window of a layer; the interval is a number, or a word such as ``LLLG``."""
    width = c.window()
    if width is None:
        c.read |= {"sliding_window_pattern", "layer_types"}
        return None
    word = c.lookup("sliding_window_pattern")
    if isinstance(word, str) and word and c.layer_types() is None:
        return width if word[layer % len(word)].upper() == "L" else None
    return width if windowed(c, layer, "sliding_window_pattern", known=4) else None


def block(c: Config, layer: int) -> Block:
    return post_norm(c, grouped(c, qk_norm="head", window=window(c, layer)), dense(c))
