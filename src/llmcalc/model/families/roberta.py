"""RoBERTa: BERT's layers with a larger vocabulary; its classifier has a matrix of its own, not the pooler."""

from llmcalc.catalog import Catalog
from llmcalc.model.configuration import Config
from llmcalc.model.families import bert
from llmcalc.model.families._encoders import encoder
from llmcalc.model.families.bert import GGUF_NAMES, PREFIX, block, classifier, embed, masked, pooler
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, projection

__all__ = ["block", "describe"]

NAMES = {
    **bert.NAMES,
    "transform": "lm_head.dense",
    "transform_norm": "lm_head.layer_norm",
    "unembedding": "lm_head",
    "classifier_dense": "classifier.dense",
}


def head(c: Config) -> Block:
    kind = c.architecture
    if kind.endswith(("ForMaskedLM", "ForCausalLM")):
        return masked(c)
    if kind.endswith("ForSequenceClassification"):
        return projection("classifier_dense", c.hidden_size, c.hidden_size, True) + classifier(c)
    if kind.endswith(("ForTokenClassification", "ForQuestionAnswering")):
        return classifier(c, 2 if kind.endswith("Answering") else 0)
    if kind.endswith("ForMultipleChoice"):
        return pooler(c) + classifier(c, 1)
    return pooler(c)


def describe(c: Config, catalog: Catalog) -> list[Group]:
    return encoder(c, "roberta", embed(c), block, head(c), PREFIX, NAMES, GGUF_NAMES)
