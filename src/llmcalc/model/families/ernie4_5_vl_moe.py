"""ERNIE 4.5 VL: the text model, a vision tower, and a resampler over neighbouring patches and frames."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import ernie4_5_vl_moe_text
from llmcalc.model.families._multimodal import text as text_model
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import linear
from llmcalc.model.layers.hybrid import vision_layer

ROOT, RESAMPLER = "model.vision_tower.", "model.resampler_model."
NAMES = {
    "patch": "patch_embed.proj",
    "attn_norm": "norm1",
    "qkv": "attn.qkv",
    "output": "attn.proj",
    "ffn_norm": "norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "final_norm": "ln",
    "spatial_up": "spatial_linear.fc1",
    "spatial_down": "spatial_linear.fc2",
    "spatial_norm": "spatial_linear.ln",
    "temporal_up": "temporal_linear.fc1",
    "temporal_down": "temporal_linear.fc2",
    "temporal_norm": "temporal_linear.ln",
    "project": "mlp",
    "project_norm": "after_norm",
}


def tower_block(v: Config, layer: int) -> Block:
    return vision_layer(v.hidden_size, v.size("num_heads"), v.intermediate_size)


def resampler(v: Config, out: int) -> Block:
    """Joins patches over an area, then over frames, then goes to the text model's width."""
    wide, frames = v.hidden_size * v.size("spatial_merge_size") ** 2, v.size("temporal_merge_size")
    return (
        linear("spatial_up", wide, wide, bias=True)
        + linear("spatial_down", wide, wide, bias=True)
        + norm("spatial_norm", wide, True)
        + linear("temporal_up", wide, wide * frames, bias=True)
        + linear("temporal_down", wide, wide, bias=True)
        + norm("temporal_norm", wide, True)
        + linear("project", out, wide, bias=True)
        + norm("project_norm", out)
    )


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "ernie4_5_vl_moe_text", catalog, main=True)
    v = families.part(c, "vision_config", "ernie4_5_vl_moe_vision", catalog)
    width = v.hidden_size
    before = linear("patch", width, v.size("in_channels") * v.patch_size**2) + norm("final_norm", width, True)
    return [
        *text_model(ernie4_5_vl_moe_text, text, c),
        families.outside("vision", "embedding", before, ROOT, NAMES),
        *families.layers(tower_block, v, v.depth, "vision", ROOT + "blocks.{layer}.", NAMES),
        families.outside("projector", "embedding", resampler(v, text.hidden_size), RESAMPLER, NAMES),
    ]
