"""StarCoder and SantaCoder: GPT-2's layers with one KV head for all query heads."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import pre_norm
from llmcalc.model.families.gpt2 import NAMES, PREFIX, embed, head
from llmcalc.model.layers import Block, gqa, mlp

__all__ = ["NAMES", "PREFIX", "block", "embed", "head"]


def block(c: Config, layer: int) -> Block:
    heads = c.num_attention_heads
    kv_heads = 1 if c.flag("multi_query", True) else heads
    attention = gqa(c.hidden_size, heads, kv_heads, c.head_dim, bias=True, out_bias=True, fused=True)
    width = c.optional("n_inner") or 4 * c.hidden_size
    return pre_norm(c, attention, mlp(c.hidden_size, width, gated=False, bias=True), bias=True)
