"""OLMo 1: Llama's layers with norms that have no weights."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, grouped
from llmcalc.model.layers import Block, norm


def block(c: Config, layer: int) -> Block:
    bias, width = c.flag("attention_bias"), c.hidden_size
    return (
        norm("attn_norm", width, weight=False)
        + grouped(c, bias=bias, out_bias=bias)
        + norm("ffn_norm", width, weight=False)
        + dense(c)
    )


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, weight=False) + unembed(c)
