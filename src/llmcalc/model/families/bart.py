"""BART: an encoder and a decoder with learned positions, norms after each part, biases everywhere."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families.whisper import NAMES as WHISPER_NAMES
from llmcalc.model.families.whisper import split
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, gqa, head, mlp, norm, positions, projection
from llmcalc.model.layers.encoders import cross_attention

__all__ = ["block", "describe", "split"]

ENCODER, DECODER = "model.encoder.", "model.decoder."
NAMES = {
    **WHISPER_NAMES,
    "embedding": "model.shared",
    "embedding_norm": "layernorm_embedding",
    "dense": "classification_head.dense",
    "classifier": "classification_head.out_proj",
}
PADDING_ROWS = 2
"""The position tables start at 2."""


def attention(c: Config, heads: int, cached: bool) -> Block:
    width = c.hidden_size
    made = gqa(width, heads, heads, width // heads, bias=True, out_bias=True, cached=cached)
    return made + norm("attn_norm", width, True)


def feed_forward(c: Config, ffn: int) -> Block:
    return mlp(c.hidden_size, ffn, gated=False, bias=True) + norm("ffn_norm", c.hidden_size, True)


def encoder_block(c: Config, layer: int) -> Block:
    return attention(c, c.size("encoder_attention_heads"), False) + feed_forward(c, c.size("encoder_ffn_dim"))


def block(c: Config, layer: int) -> Block:
    width, heads = c.hidden_size, c.size("decoder_attention_heads")
    cross = cross_attention(width, heads, heads, width // heads, bias=True)
    return (
        attention(c, heads, True)
        + cross
        + norm("cross_norm", width, True)
        + feed_forward(c, c.size("decoder_ffn_dim"))
    )


def ending(c: Config) -> Block:
    """A language model's head, tied; a classifier's, of two matrices; or none."""
    width = c.hidden_size
    if c.architecture.endswith("ForSequenceClassification"):
        dense = projection("dense", width, width, True)
        return dense + projection("classifier", c.labels, width, True, "labels")
    if c.architecture.endswith("Model"):
        return ()
    return head(c.vocab_size, width, tied=c.flag("tie_word_embeddings", True))


def describe(c: Config, catalog: Catalog) -> list[Group]:
    c.check("hidden_size", "vocab_size", "encoder_layers", "decoder_layers")
    width = c.hidden_size
    before = positions(c.max_position_embeddings + PADDING_ROWS, width) + norm("embedding_norm", width, True)
    return [
        families.outside("text", "embedding", embedding(c.vocab_size, width), names=NAMES),
        families.outside("encoder", "embedding", before, ENCODER, NAMES),
        *families.layers(
            encoder_block, c, c.size("encoder_layers"), "encoder", ENCODER + "layers.{layer}.", NAMES
        ),
        families.outside("text", "embedding", before, DECODER, NAMES),
        *families.layers(block, c, c.size("decoder_layers"), "text", DECODER + "layers.{layer}.", NAMES),
        families.outside("text", "head", ending(c), names=NAMES),
    ]
