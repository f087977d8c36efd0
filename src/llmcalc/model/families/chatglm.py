"""ChatGLM 2, 3 and GLM 4 9B as first published: a few KV heads, fused matrices, names of Megatron."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import pre_norm
from llmcalc.model.layers import Block, gqa, mlp, norm
from llmcalc.model.layers import head as unembedding

PREFIX = "transformer.encoder.layers.{layer}"
NAMES = {
    "embedding": "transformer.embedding.word_embeddings",
    "qkv": "self_attention.query_key_value",
    "output": "self_attention.dense",
    "gate_up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "final_norm": "transformer.encoder.final_layernorm",
    "unembedding": "transformer.output_layer",
}


def block(c: Config, layer: int) -> Block:
    heads, bias = c.num_attention_heads, c.flag("add_bias_linear")
    c.read.add("multi_query_group_num")
    attention = gqa(
        c.hidden_size,
        heads,
        c.multi_query_group_num if c.flag("multi_query_attention") else heads,
        c.optional("kv_channels") or c.head_dim,
        bias=bias or c.flag("add_qkv_bias"),
        out_bias=bias,
        fused=True,
    )
    return pre_norm(c, attention, mlp(c.hidden_size, c.ffn_hidden_size, fused=True, bias=bias))


def head(c: Config) -> Block:
    # `architectures` says ChatGLMModel, which has a head all the same.
    before = norm("final_norm", c.hidden_size) if c.flag("post_layer_norm", True) else ()
    return before + unembedding(c.vocab_size, c.hidden_size, tied=c.flag("tie_word_embeddings"))
