"""InternLM 2 and 2.5: Llama's layers, query, key and value in one matrix."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block

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
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias, fused=True), dense(c))
