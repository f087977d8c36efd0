"""ALBERT: one layer, stored once and run at every depth; embeddings narrower than the layers."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import bert
from llmcalc.model.families._encoders import root
from llmcalc.model.families.bert import classifier, masked, pooler
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, lower, norm, positions, projection
from llmcalc.model.layers.encoders import table

__all__ = ["block", "describe"]

NAMES = {
    **bert.NAMES,
    "widen": "encoder.embedding_hidden_mapping_in",
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "output": "attention.dense",
    "post_attn_norm": "attention.LayerNorm",
    "up": "ffn",
    "down": "ffn_output",
    "post_ffn_norm": "full_layer_layer_norm",
    "pooler": "pooler",
    "transform": "predictions.dense",
    "transform_norm": "predictions.LayerNorm",
    "unembedding": "predictions",
    "next_sentence": "sop_classifier.classifier",
}


def embed(c: Config) -> Block:
    width = c.size("embedding_size")
    return (
        embedding(c.vocab_size, width)
        + positions(c.max_position_embeddings, width)
        + table("segment", c.size("type_vocab_size"), width)
        + norm("embedding_norm", width, True)
        + projection("widen", c.hidden_size, width, True)
    )


def block(c: Config, layer: int) -> Block:
    return bert.block(c, layer)


def head(c: Config) -> Block:
    kind = c.architecture
    if kind.endswith("ForMaskedLM"):
        return masked(c, c.size("embedding_size"))
    if kind.endswith("ForPreTraining"):
        order = projection("next_sentence", c.labels, c.hidden_size, True, "labels")
        return pooler(c) + masked(c, c.size("embedding_size")) + order
    if kind.endswith(("ForTokenClassification", "ForQuestionAnswering")):
        return classifier(c)
    if kind.endswith(("ForSequenceClassification", "ForMultipleChoice")):
        return pooler(c) + classifier(c, 1 if kind.endswith("Choice") else 0)
    return pooler(c)


def shared(c: Config, at: str) -> list[Group]:
    """Each group of layers stored once: `inner_group_num` layers, run at every depth of the group."""
    depths, groups, inner = c.num_hidden_layers, c.size("num_hidden_groups"), c.size("inner_group_num")
    made = lower(block(c, 0))
    found = []
    for group in range(groups):
        own = tuple(depth for depth in range(depths) if depth * groups // depths == group)
        for one in range(inner):
            prefix = f"{at}encoder.albert_layer_groups.{group}.albert_layers.{one}."
            found.append(Group("text", "layer", own, made.tensors, (), made.ops, prefix, NAMES, stored=1))
    return found


def describe(c: Config, catalog: Catalog) -> list[Group]:
    c.check("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    at = root(c, "albert")
    return [
        families.outside("text", "embedding", embed(c), at, NAMES),
        *shared(c, at),
        families.outside("text", "head", head(c), "", {**NAMES, "pooler": f"{at}pooler"}),
    ]
