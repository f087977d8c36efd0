"""MiniMax-M3, multimodal: a vision tower with rotary positions, a projector, and the text model."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import minimax_m3_vl_text
from llmcalc.model.families.gemma3 import TOWER, TOWER_NAMES, tower_block
from llmcalc.model.inventory import Group
from llmcalc.model.layers import norm, projection
from llmcalc.model.layers.hybrid import volume_patches

NAMES = {**TOWER_NAMES, "pre_norm": "pre_layrnorm"}
PROJECTOR_NAMES = {
    "project": "multi_modal_projector.linear_1",
    "project_out": "multi_modal_projector.linear_2",
    "merge": "patch_merge_mlp.linear_1",
    "merge_out": "patch_merge_mlp.linear_2",
}


def compression(v: Config) -> Config:
    """Where the tower's file says how patches are joined."""
    stated = v.lookup("img_token_compression_config")
    return v if stated in (MISSING, None) else v.part("img_token_compression_config", v.defaults)


def tower(v: Config) -> list[Group]:
    joined = compression(v)
    frames = joined.size("temporal_patch_size")
    before = volume_patches(v.hidden_size, v.num_channels, frames, v.patch_size, bias=False)
    before += norm("pre_norm", v.hidden_size, True)
    v.read |= {"image_size", "projection_dim", "vocab_size", "vision_segment_max_frames"}
    prefix = TOWER + "encoder.layers.{layer}."
    return [
        families.outside("vision", "embedding", before, TOWER, NAMES),
        *families.layers(tower_block, v, v.num_hidden_layers, "vision", prefix, NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "minimax_m3_vl_text", catalog, main=True)
    vision = families.part(c, "vision_config", "minimax_m3_vl_vision", catalog)
    bias = c.flag("multimodal_projector_bias", True)
    inner, width = c.size("projector_hidden_size"), text.hidden_size
    joined = compression(vision).size("spatial_merge_size") ** 2
    projector = (
        projection("project", inner, vision.hidden_size, bias)
        + projection("project_out", width, inner, bias)
        + projection("merge", inner, width * joined, bias)
        + projection("merge_out", width, inner, bias)
    )
    c.read |= {"img_token_compression_config"}
    return [
        *families.decoder(minimax_m3_vl_text, text, c, "language_model."),
        *tower(vision),
        families.outside("projector", "embedding", projector, "", PROJECTOR_NAMES),
    ]
