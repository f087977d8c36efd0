"""InternLM 2 and 2.5: Llama's layers, query, key and value in one matrix."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, mlp, norm

NAMES = {
    "embedding": "model.tok_embeddings",
    "attn_norm": "attention_norm",
    "qkv": "attention.wqkv",
    "output": "attention.wo",
    "ffn_norm": "ffn_norm",
    "gate": "feed_forward.w1",
    "up": "feed_forward.w3",
    "down": "feed_forward.w2",
    "unembedding": "output",
    "classifier": "v_head",
}


def block(c: Config, layer: int) -> Block:
    bias = c.flag("bias")
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(
            c.hidden_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            bias=bias,
            out_bias=bias,
            fused=True,
        )
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.intermediate_size)
    )
