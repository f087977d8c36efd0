"""GPT-2: learned positions, LayerNorms and biases, matrices stored input first."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.layers import Block, embedding, gqa, mlp, norm, positions

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
    heads = c.num_attention_heads
    return (
        norm("attn_norm", c.hidden_size, bias=True)
        + gqa(c.hidden_size, heads, heads, c.head_dim, bias=True, out_bias=True, fused=True, transposed=True)
        + norm("ffn_norm", c.hidden_size, bias=True)
        + mlp(
            c.hidden_size, c.optional("n_inner") or 4 * c.hidden_size, gated=False, bias=True, transposed=True
        )
    )


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
