"""BERT: an encoder with learned positions, norms after each part, biases everywhere; no KV cache.

The architecture decides the head: a pooler for embedding models, a small transform before the tied
unembedding for masked words, both before pre-training.
"""

from llmcalc.catalog import Catalog
from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, multi_head
from llmcalc.model.families._encoders import encoder
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, norm, positions, projection
from llmcalc.model.layers import head as unembedding
from llmcalc.model.layers.encoders import table

PREFIX = "encoder.layer.{layer}"
NAMES = {
    "embedding": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "segment": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "post_attn_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "post_ffn_norm": "output.LayerNorm",
    "pooler": "pooler.dense",
    "transform": "cls.predictions.transform.dense",
    "transform_norm": "cls.predictions.transform.LayerNorm",
    "unembedding": "cls.predictions",
    "next_sentence": "cls.seq_relationship",
    "classifier": "classifier",
}
GGUF_NAMES = {
    "segment": "token_types",
    "embedding_norm": "token_embd_norm",
    "post_attn_norm": "attn_output_norm",
    "post_ffn_norm": "layer_output_norm",
}


def embed(c: Config) -> Block:
    width = c.hidden_size
    made = embedding(c.vocab_size, width) + positions(c.max_position_embeddings, width)
    kinds = c.optional("type_vocab_size")
    if kinds:
        made += table("segment", kinds, width)
    return made + norm("embedding_norm", width, True)


def block(c: Config, layer: int) -> Block:
    width = c.hidden_size
    attention = multi_head(c, bias=True, out_bias=True, cached=False)
    made = attention + norm("post_attn_norm", width, True)
    return made + dense(c, gated=False, bias=True) + norm("post_ffn_norm", width, True)


def masked(c: Config, width: int = 0) -> Block:
    """The head that guesses masked words: a transform, a norm, the tied unembedding with a bias."""
    width = width or c.hidden_size
    return (
        projection("transform", width, c.hidden_size, True)
        + norm("transform_norm", width, True)
        + unembedding(c.vocab_size, width, tied=c.flag("tie_word_embeddings", True), bias=True)
    )


def pooler(c: Config) -> Block:
    return projection("pooler", c.hidden_size, c.hidden_size, True)


def classifier(c: Config, labels: int = 0) -> Block:
    return projection("classifier", labels or c.labels, c.hidden_size, True, "labels")


def head(c: Config) -> Block:
    kind = c.architecture
    if kind.endswith(("ForMaskedLM", "LMHeadModel")):
        return masked(c)
    if kind.endswith("ForPreTraining"):
        return pooler(c) + masked(c) + projection("next_sentence", 2, c.hidden_size, True, "labels")
    if kind.endswith("ForNextSentencePrediction"):
        return pooler(c) + projection("next_sentence", 2, c.hidden_size, True, "labels")
    if kind.endswith(("ForTokenClassification", "ForQuestionAnswering")):
        return classifier(c, 2 if kind.endswith("Answering") else 0)
    if kind.endswith(("ForSequenceClassification", "ForMultipleChoice")):
        return pooler(c) + classifier(c, 1 if kind.endswith("Choice") else 0)
    return pooler(c)


def describe(c: Config, catalog: Catalog) -> list[Group]:
    return encoder(c, "bert", embed(c), block, head(c), PREFIX, NAMES, GGUF_NAMES)
