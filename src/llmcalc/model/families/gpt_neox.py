"""GPT-NeoX and Pythia: fused query, key and value, LayerNorms, biases, untied head."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.layers import Block, gqa, mlp, norm

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
    heads = c.num_attention_heads
    return (
        norm("attn_norm", c.hidden_size, bias=True)
        + gqa(c.hidden_size, heads, heads, c.head_dim, bias=bias, out_bias=bias, fused=True)
        + norm("ffn_norm", c.hidden_size, bias=True)
        + mlp(c.hidden_size, c.intermediate_size, gated=False, bias=True)
    )


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
