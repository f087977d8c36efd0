"""GPT-2: learned positions, LayerNorms and biases, matrices stored input first."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import multi_head, pre_norm
from llmcalc.model.layers import Block, embedding, mlp, norm, positions

PREFIX = "transformer.h.{layer}"
NAMES = {
    "embedding": "transformer.wte",
    "position": "transformer.wpe",
    "attn_norm": "ln_1",
    "qkv": "attn.c_attn",
    "output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
    "final_norm": "transformer.ln_f",
}


def embed(c: Config) -> Block:
    return embedding(c.vocab_size, c.hidden_size) + positions(c.max_position_embeddings, c.hidden_size)


def block(c: Config, layer: int) -> Block:
    attention = multi_head(c, bias=True, out_bias=True, fused=True, transposed=True)
    width = c.optional("n_inner") or 4 * c.hidden_size
    return pre_norm(
        c, attention, mlp(c.hidden_size, width, gated=False, bias=True, transposed=True), bias=True
    )


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
