"""Phi 1 and 1.5 as first published: Phi's layers under GPT-2's key names."""

from llmcalc.model.configuration import Config
from llmcalc.model.families.phi import NAMES, head
from llmcalc.model.layers import Block, gqa, mlp, norm

__all__ = ["NAMES", "block", "head"]


def block(c: Config, layer: int) -> Block:
    heads = c.num_attention_heads
    return (
        norm("attn_norm", c.hidden_size, bias=True)
        + gqa(c.hidden_size, heads, c.optional("n_head_kv") or heads, c.head_dim, bias=True, out_bias=True)
        + mlp(c.hidden_size, c.optional("n_inner") or 4 * c.hidden_size, gated=False, bias=True)
    )
