"""Falcon: fused query, key and value; attention and MLP side by side after one norm or two.

The old architecture with `multi_query` has one KV head whatever `num_kv_heads` says.
"""

from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import unembed
from llmcalc.model.layers import Block, gqa, mlp, norm

PREFIX = "transformer.h.{layer}"
NAMES = {
    "embedding": "transformer.word_embeddings",
    "qkv": "self_attention.query_key_value",
    "output": "self_attention.dense",
    "attn_norm": "input_layernorm",
    "ln_attn": "ln_attn",
    "ln_mlp": "ln_mlp",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "final_norm": "transformer.ln_f",
}


def kv_heads(c: Config) -> int:
    c.read |= {"num_kv_heads", "n_head_kv", "num_key_value_heads", "multi_query"}
    if c.flag("new_decoder_architecture"):
        for key in ("num_kv_heads", "n_head_kv", "num_key_value_heads"):
            if c.lookup(key) not in (MISSING, None):
                return c.size(key)
        return int(c.num_attention_heads)
    return 1 if c.flag("multi_query", True) else int(c.num_attention_heads)


def norms(c: Config) -> tuple[str, ...]:
    if c.flag("new_decoder_architecture") and (c.optional("num_ln_in_parallel_attn") or 2) == 2:
        return ("ln_attn", "ln_mlp")
    if c.flag("new_decoder_architecture") or c.flag("parallel_attn", True):
        return ("attn_norm",)
    return ("attn_norm", "ffn_norm")


def block(c: Config, layer: int) -> Block:
    bias = c.flag("bias")
    made: Block = ()
    for role in norms(c):
        made += norm(role, c.hidden_size, bias=True)
    return (
        made
        + gqa(
            c.hidden_size,
            c.num_attention_heads,
            kv_heads(c),
            c.head_dim,
            bias=bias,
            out_bias=bias,
            fused=True,
            broadcast=c.flag("new_decoder_architecture"),
        )
        + mlp(c.hidden_size, c.optional("ffn_hidden_size") or 4 * c.hidden_size, gated=False, bias=bias)
    )


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c)
