"""GPT-NeoX and Pythia: fused query, key and value, LayerNorms, biases, untied head."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, multi_head, pre_norm
from llmcalc.model.layers import Block, norm

PREFIX = "gpt_neox.layers.{layer}"
NAMES = {
    "embedding": "gpt_neox.embed_in",
    "qkv": "attention.query_key_value",
    "output": "attention.dense",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "final_norm": "gpt_neox.final_layer_norm",
    "unembedding": "embed_out",
}


def block(c: Config, layer: int) -> Block:
    bias = c.flag("attention_bias", True)
    attention = multi_head(c, bias=bias, out_bias=bias, fused=True)
    return pre_norm(c, attention, dense(c, gated=False, bias=True), bias=True)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
