"""Gemma 4, multimodal: the text model with a vision tower, and in the small ones an audio tower."""

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import gemma4_text
from llmcalc.model.families._multimodal import text as text_model
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import (
    buffer,
    conformer_layer,
    convolution,
    linear,
    table,
    tower_attention,
    tower_mlp,
)

VISION, AUDIO = "model.vision_tower.", "model.audio_tower."
VISION_NAMES = {
    "patch": "patch_embedder.input_proj",
    "position": "patch_embedder.position_embedding_table",
    "query": "self_attn.q_proj.linear",
    "key": "self_attn.k_proj.linear",
    "value": "self_attn.v_proj.linear",
    "output": "self_attn.o_proj.linear",
    "gate": "mlp.gate_proj.linear",
    "up": "mlp.up_proj.linear",
    "down": "mlp.down_proj.linear",
    "post_attn_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffn_norm": "post_feedforward_layernorm",
}
AUDIO_NAMES = {
    "conv1": "subsample_conv_projection.layer0.conv",
    "conv1_norm": "subsample_conv_projection.layer0.norm",
    "conv2": "subsample_conv_projection.layer1.conv",
    "conv2_norm": "subsample_conv_projection.layer1.norm",
    "patch": "subsample_conv_projection.input_proj_linear",
    "projection": "output_proj",
    "first_ffn_norm": "feed_forward1.pre_layer_norm",
    "first_up": "feed_forward1.ffw_layer_1.linear",
    "first_down": "feed_forward1.ffw_layer_2.linear",
    "first_post_ffn_norm": "feed_forward1.post_layer_norm",
    "second_ffn_norm": "feed_forward2.pre_layer_norm",
    "second_up": "feed_forward2.ffw_layer_1.linear",
    "second_down": "feed_forward2.ffw_layer_2.linear",
    "second_post_ffn_norm": "feed_forward2.post_layer_norm",
    "attn_norm": "norm_pre_attn",
    "post_attn_norm": "norm_post_attn",
    "query": "self_attn.q_proj.linear",
    "key": "self_attn.k_proj.linear",
    "value": "self_attn.v_proj.linear",
    "output": "self_attn.post.linear",
    "relative_key": "self_attn.relative_k_proj",
    "per_dim_scale": "self_attn.per_dim_scale",
    "conv_in_norm": "lconv1d.pre_layer_norm",
    "conv_in": "lconv1d.linear_start.linear",
    "conv": "lconv1d.depthwise_conv1d",
    "conv_norm": "lconv1d.conv_norm",
    "conv_out": "lconv1d.linear_end.linear",
    "final_norm": "norm_out",
}
COLORS, SUBSAMPLED, AUDIO_OUT = 3, (128, 32), 1536
"""Fixed in the class, or omitted by every file: transformers, Gemma4AudioConfig."""


def vision_block(v: Config, layer: int) -> Block:
    width = v.hidden_size
    attention = tower_attention(
        width,
        v.num_attention_heads,
        head_dim=v.head_dim,
        kv_heads=v.num_key_value_heads,
        bias=v.flag("attention_bias"),
        qk_norm=True,
    )
    return (
        norm("attn_norm", width)
        + attention
        + norm("post_attn_norm", width)
        + norm("ffn_norm", width)
        + tower_mlp(width, v.intermediate_size, gated=True, bias=False)
        + norm("post_ffn_norm", width)
    )


def vision_tower(v: Config) -> list[Group]:
    v.read |= {"global_head_dim", "pooling_kernel_size", "max_position_embeddings"}
    width = v.hidden_size
    before = linear("patch", width, COLORS * v.patch_size**2)
    before += table("position", 2, v.size("position_embedding_size"), width, part="")
    if v.flag("standardize"):
        before += buffer("std_bias", width) + buffer("std_scale", width)
    place = VISION + "encoder.layers.{layer}."
    return [
        families.outside("vision", "embedding", before, VISION, VISION_NAMES),
        *families.layers(vision_block, v, v.num_hidden_layers, "vision", place, VISION_NAMES),
    ]


def audio_block(a: Config, layer: int) -> Block:
    return conformer_layer(a.hidden_size, a.num_attention_heads, a.size("conv_kernel_size"))


def channels(a: Config) -> tuple[int, int]:
    """Channels of the two convolutions that thin out the spectrogram."""
    value = a.lookup("subsampling_conv_channels")
    if value is MISSING or value is None:
        return SUBSAMPLED
    if not isinstance(value, list) or len(value) != 2:
        raise ConfigError(f"{a.label}: subsampling_conv_channels is not a pair.", "Correct it.")
    first, second = (a._checked("subsampling_conv_channels", one) for one in value)
    return first, second


def audio_tower(a: Config) -> list[Group]:
    width = a.hidden_size
    first, second = channels(a)
    before = (
        convolution("conv1", first, 1, 3, 3, bias=False)
        + norm("conv1_norm", first)
        + convolution("conv2", second, first, 3, 3, bias=False)
        + norm("conv2_norm", second)
        + linear("patch", width, first // 4 * second)
    )
    after = linear("projection", a.size("output_proj_dims", AUDIO_OUT), width, bias=True)
    place = AUDIO + "layers.{layer}."
    return [
        families.outside("audio", "embedding", before, AUDIO, AUDIO_NAMES),
        *families.layers(audio_block, a, a.num_hidden_layers, "audio", place, AUDIO_NAMES),
        families.outside("audio", "embedding", after, AUDIO, AUDIO_NAMES),
    ]


def projector(name: str, out: int, inp: int) -> Group:
    names = {"projection": "embedding_projection"}
    return families.outside("projector", "embedding", linear("projection", out, inp), f"model.{name}.", names)


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "gemma4_text", catalog, main=True)
    groups = text_model(gemma4_text, text, c)
    if c.lookup("vision_config") not in (None, MISSING):
        vision = families.part(c, "vision_config", "gemma4_vision", catalog)
        groups += [*vision_tower(vision), projector("embed_vision", text.hidden_size, vision.hidden_size)]
    if c.lookup("audio_config") not in (None, MISSING):
        audio = families.part(c, "audio_config", "gemma4_audio", catalog)
        out = audio.size("output_proj_dims", AUDIO_OUT)
        groups += [*audio_tower(audio), projector("embed_audio", text.hidden_size, out)]
    return groups
