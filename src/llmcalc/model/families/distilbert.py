"""DistilBERT: BERT's layers, half as many, without segments and pooler."""

from llmcalc.catalog import Catalog
from llmcalc.model.configuration import Config
from llmcalc.model.families import bert
from llmcalc.model.families._encoders import encoder
from llmcalc.model.families.bert import classifier, masked
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, gqa, mlp, norm, positions, projection

PREFIX = "transformer.layer.{layer}"
NAMES = {
    **bert.NAMES,
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "output": "attention.out_lin",
    "post_attn_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "post_ffn_norm": "output_layer_norm",
    "transform": "vocab_transform",
    "transform_norm": "vocab_layer_norm",
    "unembedding": "vocab_projector",
    "classifier_dense": "pre_classifier",
}
GGUF_NAMES = bert.GGUF_NAMES


def embed(c: Config) -> Block:
    made = embedding(c.vocab_size, c.hidden_size) + positions(c.max_position_embeddings, c.hidden_size)
    return made + norm("embedding_norm", c.hidden_size, True)


def block(c: Config, layer: int) -> Block:
    width, heads = c.hidden_size, c.num_attention_heads
    made = gqa(width, heads, heads, c.head_dim, bias=True, out_bias=True, cached=False)
    made += norm("post_attn_norm", width, True)
    return (
        made + mlp(width, c.size("hidden_dim"), gated=False, bias=True) + norm("post_ffn_norm", width, True)
    )


def head(c: Config) -> Block:
    kind = c.architecture
    if kind.endswith("ForMaskedLM"):
        return masked(c)
    if kind.endswith(("ForSequenceClassification", "ForMultipleChoice")):
        dense = projection("classifier_dense", c.hidden_size, c.hidden_size, True)
        return dense + classifier(c, 1 if kind.endswith("Choice") else 0)
    if kind.endswith(("ForTokenClassification", "ForQuestionAnswering")):
        return classifier(c, 2 if kind.endswith("Answering") else 0)
    return ()


def describe(c: Config, catalog: Catalog) -> list[Group]:
    return encoder(c, "distilbert", embed(c), block, head(c), PREFIX, NAMES, GGUF_NAMES)
