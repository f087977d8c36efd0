"""Llama 3.2 Vision, the text model: some layers attend to the image instead of to the text.

Their keys and values are computed once from the image and have its length.
"""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block, embedding
from llmcalc.model.layers.encoders import cross_attention
from llmcalc.model.layers.sharing import branch_gates

NAMES = {
    "cross_query": "cross_attn.q_proj",
    "cross_key": "cross_attn.k_proj",
    "cross_value": "cross_attn.v_proj",
    "cross_output": "cross_attn.o_proj",
    "cross_query_norm": "cross_attn.q_norm",
    "cross_key_norm": "cross_attn.k_norm",
    "attn_branch_gate": "cross_attn_attn_gate",
    "ffn_branch_gate": "cross_attn_mlp_gate",
}
EXTRA_ROWS = 8
"""The embedding has rows for special image tokens that the head can't say."""


def embed(c: Config) -> Block:
    return embedding(c.vocab_size + EXTRA_ROWS, c.hidden_size)


def block(c: Config, layer: int) -> Block:
    if c.lookup("cross_attention_layers") in (MISSING, None):
        raise ConfigError(f"{c.label} lacks cross_attention_layers.", 'Add "cross_attention_layers".')
    if layer not in c.indices("cross_attention_layers"):
        return pre_norm(c, grouped(c), dense(c))
    cross = cross_attention(
        c.hidden_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.head_dim,
        stream="image",
        qk_norm=True,
    )
    return pre_norm(c, cross, dense(c)) + branch_gates("attn_branch_gate", "ffn_branch_gate")
