"""Cohere Command R and Aya: one LayerNorm without bias, then attention and MLP side by side."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped
from llmcalc.model.layers import Block, norm


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias")
    attention = grouped(c, bias=bias, out_bias=bias, qk_norm="heads" if c.flag("use_qk_norm") else "")
    return norm("attn_norm", c.hidden_size) + attention + dense(c)
