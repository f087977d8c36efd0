"""MPT: fused query, key and value, LayerNorms, no biases; positions by ALiBi, embeddings tied."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import multi_head, nested, pre_norm
from llmcalc.model.layers import Block, mlp, norm

PREFIX = "transformer.blocks.{layer}"
NAMES = {
    "embedding": "transformer.wte",
    "attn_norm": "norm_1",
    "qkv": "attn.Wqkv",
    "output": "attn.out_proj",
    "ffn_norm": "norm_2",
    "up": "ffn.up_proj",
    "down": "ffn.down_proj",
    "final_norm": "transformer.norm_f",
}


def biased(c: Config) -> bool:
    return not c.flag("no_bias", True)


def block(c: Config, layer: int) -> Block:
    bias = biased(c)
    nested(c, "attn_config")
    feed_forward = mlp(c.hidden_size, c.size("expansion_ratio", 4) * c.hidden_size, gated=False, bias=bias)
    return pre_norm(c, multi_head(c, bias=bias, out_bias=bias, fused=True), feed_forward, bias=bias)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=biased(c)) + unembed(c)
