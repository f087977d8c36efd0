"""Qwen 1: biases on query, key and value; `intermediate_size` counts gate and up together."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import pre_norm
from llmcalc.model.layers import Block, gqa, mlp

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
    heads, width = c.num_attention_heads, c.optional("kv_channels") or c.head_dim
    out_bias = not c.flag("no_bias", True)
    attention = gqa(c.hidden_size, heads, heads, width, bias=True, out_bias=out_bias, fused=True)
    return pre_norm(c, attention, mlp(c.hidden_size, c.intermediate_size // 2))
