"""DeBERTa v2 and v3: BERT's layers, with one table of relative positions for all of them."""

from llmcalc.catalog import Catalog
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import bert
from llmcalc.model.families._encoders import encoder
from llmcalc.model.families.bert import masked
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, norm, positions, projection
from llmcalc.model.layers.encoders import convolution, table

PREFIX = "encoder.layer.{layer}"
NAMES = {
    **bert.NAMES,
    "narrow_to_wide": "embeddings.embed_proj",
    "query": "attention.self.query_proj",
    "key": "attention.self.key_proj",
    "value": "attention.self.value_proj",
    "position_key": "attention.self.pos_key_proj",
    "position_query": "attention.self.pos_query_proj",
    "relative_position": "encoder.rel_embeddings",
    "relative_norm": "encoder.LayerNorm",
    "convolution": "encoder.conv.conv",
    "convolution_norm": "encoder.conv.LayerNorm",
}

GGUF_NAMES = bert.GGUF_NAMES


def embed(c: Config) -> Block:
    width = c.hidden_size
    own = c.size("embedding_size", width)
    made = embedding(c.vocab_size, own)
    if c.flag("position_biased_input", True):
        made += positions(c.max_position_embeddings, own)
    kinds = c.optional("type_vocab_size")
    if kinds:
        made += table("segment", kinds, own)
    if own != width:
        made += projection("narrow_to_wide", width, own)
    return made + norm("embedding_norm", width, True) + relative(c)


def relative(c: Config) -> Block:
    """The table that all layers share, and what is done with it."""
    made: Block = ()
    # -1 means: as many as there are positions.
    span = c.lookup("max_relative_positions")
    buckets = c.lookup("position_buckets")
    if c.flag("relative_attention"):
        rows = c.max_position_embeddings
        if isinstance(span, int) and span > 0:
            rows = c.size("max_relative_positions")
        if isinstance(buckets, int) and buckets > 0:
            rows = c.size("position_buckets")
        made += table("relative_position", 2 * rows, c.hidden_size)
    if "layer_norm" in str(c.lookup("norm_rel_ebd")):
        made += norm("relative_norm", c.hidden_size, True)
    kernel = c.optional("conv_kernel_size")
    if kernel:
        groups = c.size("conv_groups", 1)
        made += convolution("convolution", c.hidden_size, c.hidden_size // groups, kernel)
        made += norm("convolution_norm", c.hidden_size, True)
    return made


def block(c: Config, layer: int) -> Block:
    made = bert.block(c, layer)
    ways = c.lookup("pos_att_type")
    if c.flag("relative_attention") and not c.flag("share_att_key") and ways not in (MISSING, None):
        for way, role in (("c2p", "position_key"), ("p2c", "position_query")):
            if way in ways:
                made += projection(role, c.hidden_size, c.hidden_size, True)
    return made


def head(c: Config) -> Block:
    kind = c.architecture
    if kind.endswith("ForMaskedLM"):
        return masked(c, c.size("embedding_size", c.hidden_size))
    if kind.endswith(("ForSequenceClassification", "ForMultipleChoice")):
        width = c.size("pooler_hidden_size", c.hidden_size)
        labels = 1 if kind.endswith("Choice") else c.labels
        dense = projection("pooler", width, width, True)
        return dense + projection("classifier", labels, width, True, "labels")
    if kind.endswith(("ForTokenClassification", "ForQuestionAnswering")):
        return bert.classifier(c, 2 if kind.endswith("Answering") else 0)
    c.read |= {"pooler_hidden_size"}
    return ()


def describe(c: Config, catalog: Catalog) -> list[Group]:
    return encoder(c, "deberta", embed(c), block, head(c), PREFIX, NAMES, GGUF_NAMES)
