"""Whisper: an audio encoder of 1,500 positions and a text decoder, LayerNorms, no bias on any key."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, gqa, head, mlp, norm, positions
from llmcalc.model.layers.encoders import convolution, cross_attention

ENCODER, DECODER = "model.encoder.", "model.decoder."
NAMES = {
    "embedding": "embed_tokens",
    "position": "embed_positions",
    "attn_norm": "self_attn_layer_norm",
    "output": "self_attn.out_proj",
    "cross_norm": "encoder_attn_layer_norm",
    "cross_query": "encoder_attn.q_proj",
    "cross_key": "encoder_attn.k_proj",
    "cross_value": "encoder_attn.v_proj",
    "cross_output": "encoder_attn.out_proj",
    "ffn_norm": "final_layer_norm",
    "up": "fc1",
    "down": "fc2",
    "final_norm": "layer_norm",
}
MEL_KERNEL = 3
"""Both convolutions look at three frames; the second halves their number."""


def attention(c: Config, heads: int, cached: bool) -> Block:
    width = c.hidden_size
    made = gqa(width, heads, heads, width // heads, bias=True, key_bias=False, out_bias=True, cached=cached)
    return norm("attn_norm", width, True) + made


def feed_forward(c: Config, ffn: int) -> Block:
    return norm("ffn_norm", c.hidden_size, True) + mlp(c.hidden_size, ffn, gated=False, bias=True)


def encoder_block(c: Config, layer: int) -> Block:
    return attention(c, c.size("encoder_attention_heads"), False) + feed_forward(c, c.size("encoder_ffn_dim"))


def block(c: Config, layer: int) -> Block:
    width, heads = c.hidden_size, c.size("decoder_attention_heads")
    cross = cross_attention(width, heads, heads, width // heads, bias=True, key_bias=False)
    return (
        attention(c, heads, True)
        + norm("cross_norm", width, True)
        + cross
        + feed_forward(c, c.size("decoder_ffn_dim"))
    )


def frames(c: Config) -> Block:
    """From the spectrogram to the encoder's positions."""
    width = c.hidden_size
    return (
        convolution("conv1", width, c.size("num_mel_bins"), MEL_KERNEL)
        + convolution("conv2", width, width, MEL_KERNEL)
        + positions(c.size("max_source_positions"), width)
    )


def describe(c: Config, catalog: Catalog) -> list[Group]:
    c.check("hidden_size", "vocab_size", "encoder_layers", "decoder_layers", "max_source_positions")
    c.renames["max_position_embeddings"] = "max_target_positions"
    width = c.hidden_size
    words = embedding(c.vocab_size, width) + positions(c.size("max_target_positions"), width)
    ending = norm("final_norm", width, True)
    if not c.architecture.endswith("Model"):
        ending += head(c.vocab_size, width, tied=c.flag("tie_word_embeddings", True))
    return [
        families.outside("encoder", "embedding", frames(c), ENCODER, NAMES),
        *families.layers(
            encoder_block, c, c.size("encoder_layers"), "encoder", ENCODER + "layers.{layer}.", NAMES
        ),
        families.outside("encoder", "embedding", norm("final_norm", width, True), ENCODER, NAMES),
        families.outside("text", "embedding", words, DECODER, NAMES),
        *families.layers(block, c, c.size("decoder_layers"), "text", DECODER + "layers.{layer}.", NAMES),
        families.outside("text", "head", ending, DECODER, NAMES),
    ]


def streams(c: Config) -> dict[str, int]:
    return {"encoder": c.size("max_source_positions")}


def split(c: Config) -> dict[str, int]:
    return {
        "encoder attention heads": c.size("encoder_attention_heads"),
        "decoder attention heads": c.size("decoder_attention_heads"),
    }
