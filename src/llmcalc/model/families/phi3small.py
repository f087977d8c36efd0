"""Phi 3 small: fused matrices with biases, LayerNorms, tied embeddings.

Every other layer attends to blocks only, but those are spread over all positions, so all are kept.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.layers import Block, mlp, norm
from llmcalc.model.layers import head as unembedding

NAMES = {
    "qkv": "self_attn.query_key_value",
    "output": "self_attn.dense",
    "gate_up": "mlp.up_proj",
    "final_norm": "model.final_layernorm",
}


def block(c: Config, layer: int) -> Block:
    c.read |= {"dense_attention_every_n_layers", "ff_dim_multiplier"}
    attention = grouped(c, bias=True, out_bias=True, fused=True)
    feed_forward = mlp(c.hidden_size, c.ff_intermediate_size, fused=True, bias=True)
    return pre_norm(c, attention, feed_forward, bias=True)


def head(c: Config) -> Block:
    tied = c.flag("tie_word_embeddings", True)
    return norm("final_norm", c.hidden_size, bias=True) + unembedding(c.vocab_size, c.hidden_size, tied=tied)
