"""T5, Flan-T5 and UL2: an encoder and a decoder of equal layers, RMSNorms, no biases.

Positions are relative: their table stands in the first layer of each stack, for all of its layers.
"""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, gqa, head, mlp, norm
from llmcalc.model.layers.encoders import cross_attention, relative_positions, second_head

NAMES = {
    "embedding": "shared",
    "attn_norm": "layer.0.layer_norm",
    "query": "layer.0.SelfAttention.q",
    "key": "layer.0.SelfAttention.k",
    "value": "layer.0.SelfAttention.v",
    "output": "layer.0.SelfAttention.o",
    "relative_position": "layer.0.SelfAttention.relative_attention_bias",
    "cross_norm": "layer.1.layer_norm",
    "cross_query": "layer.1.EncDecAttention.q",
    "cross_key": "layer.1.EncDecAttention.k",
    "cross_value": "layer.1.EncDecAttention.v",
    "cross_output": "layer.1.EncDecAttention.o",
    "final_norm": "decoder.final_layer_norm",
    "second_head": "lm_head",
    "gguf:stack": "dec.",
    "gguf:output": "attn_o",
    "gguf:second_head": "output",
}


def feed_forward_names(place: int, gated: bool) -> dict[str, str]:
    """The feed-forward layer stands second in an encoder layer and third in a decoder layer."""
    root = f"layer.{place}.DenseReluDense"
    return {
        "ffn_norm": f"layer.{place}.layer_norm",
        "gate": f"{root}.wi_0",
        "up": f"{root}.wi_1" if gated else f"{root}.wi",
        "down": f"{root}.wo",
    }


def gated(c: Config) -> bool:
    value = c.lookup("feed_forward_proj")
    return value is not MISSING and str(value).startswith("gated")


def self_attention(c: Config, layer: int, cached: bool) -> Block:
    made = norm("attn_norm", c.hidden_size) + gqa(
        c.hidden_size, c.num_attention_heads, c.num_attention_heads, c.size("d_kv"), cached=cached
    )
    if layer == 0:
        made += relative_positions(c.size("relative_attention_num_buckets"), c.num_attention_heads)
    return made


def feed_forward(c: Config) -> Block:
    return norm("ffn_norm", c.hidden_size) + mlp(c.hidden_size, c.size("d_ff"), gated=gated(c))


def encoder_block(c: Config, layer: int) -> Block:
    return self_attention(c, layer, cached=False) + feed_forward(c)


def block(c: Config, layer: int) -> Block:
    cross = cross_attention(c.hidden_size, c.num_attention_heads, c.num_attention_heads, c.size("d_kv"))
    return self_attention(c, layer, cached=True) + norm("cross_norm", c.hidden_size) + cross + feed_forward(c)


def describe(c: Config, catalog: Catalog) -> list[Group]:
    c.check("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    c.read |= {"relative_attention_max_distance", "num_decoder_layers"}
    encoder = {**NAMES, **feed_forward_names(1, gated(c)), "final_norm": "encoder.final_layer_norm"}
    encoder["gguf:stack"] = "enc."
    groups = [
        families.outside("text", "embedding", embedding(c.vocab_size, c.hidden_size), names=NAMES),
        *families.layers(encoder_block, c, c.num_hidden_layers, "encoder", "encoder.block.{layer}.", encoder),
        families.outside("encoder", "embedding", norm("final_norm", c.hidden_size), names=encoder),
    ]
    if c.architecture.endswith("EncoderModel"):
        return groups
    count = c.optional("num_decoder_layers") or c.num_hidden_layers
    decoder = {**NAMES, **feed_forward_names(2, gated(c))}
    ending = norm("final_norm", c.hidden_size)
    if not c.architecture.endswith("Model"):
        # Always tied, whatever the file says; Flan-T5's checkpoints also store a head of their own.
        ending += head(c.vocab_size, c.hidden_size, tied=True)
        if not c.flag("tie_word_embeddings", True):
            ending += second_head(c.vocab_size, c.hidden_size)
    return [
        *groups,
        *families.layers(block, c, count, "text", "decoder.block.{layer}.", decoder),
        families.outside("text", "head", ending, names=decoder),
    ]
