"""SmolLM3: Llama's layers, every fourth without rotary positions; embeddings tied."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, each, grouped, pre_norm
from llmcalc.model.layers import Block


def window(c: Config, layer: int) -> int | None:
    """A window only with `use_sliding_window`, and then in the layers without rotary positions."""
    if not c.flag("use_sliding_window"):
        c.read |= {"sliding_window", "layer_types"}
        return None
    kinds, width = c.layer_types("no_rope_layers", "no_rope_layer_interval"), c.window()
    if kinds is not None:
        return width if kinds[layer] == "sliding_attention" else None
    rotary = each(c, "no_rope_layers", 0, 1)
    if rotary is not None:
        return None if rotary[layer] else width
    return width if (layer + 1) % c.pattern("no_rope_layer_interval", known=4) == 0 else None


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    attention = grouped(c, bias=bias, out_bias=bias, window=window(c, layer))
    return pre_norm(c, attention, dense(c, bias=c.flag("mlp_bias")))
