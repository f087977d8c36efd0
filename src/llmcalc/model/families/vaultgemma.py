"""VaultGemma: Gemma 2's attention and windows, without the norms after attention and MLP."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block

NAMES = {"ffn_norm": "pre_feedforward_layernorm"}


def block(c: Config, layer: int) -> Block:
    kinds, window, bias = c.layer_types(), c.window(), c.flag("attention_bias")
    windowed = kinds[layer] == "sliding_attention" if kinds else layer % 2 == 0
    attention = grouped(c, bias=bias, out_bias=bias, window=window if windowed else None)
    return pre_norm(c, attention, dense(c))
