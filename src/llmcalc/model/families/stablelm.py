"""StableLM 2 and 3B: LayerNorms with biases around Llama's layers; some with biases on q, k and v."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block, norm


def block(c: Config, layer: int) -> Block:
    attention = grouped(c, bias=c.flag("use_qkv_bias"), qk_norm="heads" if c.flag("qk_layernorm") else "")
    if c.flag("use_parallel_residual"):
        return norm("attn_norm", c.hidden_size, bias=True) + attention + dense(c)
    return pre_norm(c, attention, dense(c), bias=True)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
