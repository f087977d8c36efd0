"""Voxtral: Whisper's audio encoder, four of its positions joined into a token, and Llama's text model."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import llama
from llmcalc.model.families.whisper import MEL_KERNEL
from llmcalc.model.families.whisper import NAMES as WHISPER_NAMES
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import convolution, linear, table, tower_attention, tower_mlp

ROOT = "audio_tower."
NAMES = {"project": "multi_modal_projector.linear_1", "project_out": "multi_modal_projector.linear_2"}


def audio_block(a: Config, layer: int) -> Block:
    width = a.hidden_size
    return (
        norm("attn_norm", width, True)
        + tower_attention(width, a.num_attention_heads, key_bias=False)
        + norm("ffn_norm", width, True)
        + tower_mlp(width, a.intermediate_size)
    )


def audio_tower(a: Config) -> list[Group]:
    width = a.hidden_size
    a.read |= {"vocab_size", "head_dim", "num_key_value_heads"}
    before = (
        convolution("conv1", width, a.size("num_mel_bins"), MEL_KERNEL)
        + convolution("conv2", width, width, MEL_KERNEL)
        + table("position", a.size("max_source_positions"), width)
    )
    after, place = norm("final_norm", width, True), ROOT + "layers.{layer}."
    return [
        families.outside("audio", "embedding", before, ROOT, WHISPER_NAMES),
        *families.layers(audio_block, a, a.num_hidden_layers, "audio", place, WHISPER_NAMES),
        families.outside("audio", "embedding", after, ROOT, WHISPER_NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "llama", catalog, main=True)
    audio = families.part(c, "audio_config", "voxtral_encoder", catalog)
    c.read |= {"hidden_size", "vocab_size"}
    text.read |= {"sliding_window"}
    out = text.hidden_size
    # Its input is as wide as the encoder's feed-forward layer: four positions.
    ending = linear("project", out, audio.intermediate_size) + linear("project_out", out, out)
    return [
        *families.decoder(llama, text, c, "language_model."),
        *audio_tower(audio),
        families.outside("projector", "embedding", ending, "", NAMES),
    ]
