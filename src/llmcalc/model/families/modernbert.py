"""ModernBERT: an encoder built like a decoder: rotary positions, pre-norms, a gated MLP, no biases.

Two of three layers look at a window. Nothing is remembered, so the window changes no memory.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, multi_head
from llmcalc.model.layers import Block, embedding, norm, projection
from llmcalc.model.layers import head as unembedding

NAMES = {
    "embedding": "model.embeddings.tok_embeddings",
    "embedding_norm": "model.embeddings.norm",
    "attn_norm": "attn_norm",
    "qkv": "attn.Wqkv",
    "output": "attn.Wo",
    "ffn_norm": "mlp_norm",
    "gate_up": "mlp.Wi",
    "down": "mlp.Wo",
    "final_norm": "model.final_norm",
    "dense": "head.dense",
    "dense_norm": "head.norm",
    "unembedding": "decoder",
    "classifier": "classifier",
}
GGUF_NAMES = {"embedding_norm": "token_embd_norm"}


def embed(c: Config) -> Block:
    return embedding(c.vocab_size, c.hidden_size) + norm("embedding_norm", c.hidden_size, c.flag("norm_bias"))


def block(c: Config, layer: int) -> Block:
    c.read |= {"layer_types", "local_attention", "sliding_window", "global_attn_every_n_layers"}
    bias, affine, width = c.flag("attention_bias"), c.flag("norm_bias"), c.hidden_size
    # The embedding has just been normed: the first layer does without.
    made = norm("attn_norm", width, affine) if layer else ()
    made += multi_head(c, bias=bias, out_bias=bias, fused=True, cached=False)
    return made + norm("ffn_norm", width, affine) + dense(c, fused=True, bias=c.flag("mlp_bias"))


def head(c: Config) -> Block:
    width, affine, kind = c.hidden_size, c.flag("norm_bias"), c.architecture
    made = norm("final_norm", width, affine)
    if kind.endswith("Model"):
        return made
    made += projection("dense", width, width, c.flag("classifier_bias")) + norm("dense_norm", width, affine)
    if kind.endswith("ForMaskedLM"):
        tied, bias = c.flag("tie_word_embeddings", True), c.flag("decoder_bias", True)
        return made + unembedding(c.vocab_size, width, tied=tied, bias=bias)
    labels = 1 if kind.endswith("Choice") else c.labels
    return made + projection("classifier", labels, width, True, "labels")
