"""Qwen 1: biases on query, key and value; `intermediate_size` counts gate and up together."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, mlp, norm

PREFIX = "transformer.h.{layer}"
NAMES = {
    "embedding": "transformer.wte",
    "attn_norm": "ln_1",
    "qkv": "attn.c_attn",
    "output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "gate": "mlp.w2",
    "up": "mlp.w1",
    "down": "mlp.c_proj",
    "final_norm": "transformer.ln_f",
}


def block(c: Config, layer: int) -> Block:
    heads = c.num_attention_heads
    width = c.optional("kv_channels") or c.head_dim
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(c.hidden_size, heads, heads, width, bias=True, out_bias=not c.flag("no_bias", True), fused=True)
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.intermediate_size // 2)
    )
