"""BLOOM: fused query, key and value, LayerNorms and biases, one more LayerNorm after the embedding."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import multi_head, pre_norm
from llmcalc.model.layers import Block, embedding, mlp, norm

PREFIX = "transformer.h.{layer}"
NAMES = {
    "embedding": "transformer.word_embeddings",
    "embed_norm": "transformer.word_embeddings_layernorm",
    "qkv": "self_attention.query_key_value",
    "output": "self_attention.dense",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "final_norm": "transformer.ln_f",
}


def embed(c: Config) -> Block:
    return embedding(c.vocab_size, c.hidden_size) + norm("embed_norm", c.hidden_size, bias=True)


def block(c: Config, layer: int) -> Block:
    attention = multi_head(c, bias=True, out_bias=True, fused=True)
    feed_forward = mlp(c.hidden_size, c.optional("n_inner") or 4 * c.hidden_size, gated=False, bias=True)
    return pre_norm(c, attention, feed_forward, bias=True)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
