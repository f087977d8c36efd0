"""LFM2-VL: a SigLIP 2 tower, a projector that joins 2 x 2 patches, and the LFM2 text model."""

import sys

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import lfm2
from llmcalc.model.families.gemma3 import TOWER_NAMES, tower_block
from llmcalc.model.families.lfm2 import GGUF_NAMES, block, head
from llmcalc.model.inventory import Group
from llmcalc.model.layers import norm, positions, projection
from llmcalc.model.layers.hybrid import pooling_head

__all__ = ["GGUF_NAMES", "NAMES", "PREFIX", "block", "describe", "head"]

ROOT = "model.vision_tower."
PREFIX = "model.language_model.layers.{layer}"
NAMES = {
    **lfm2.NAMES,
    "embedding": "model.language_model.embed_tokens",
    "final_norm": "model.language_model.embedding_norm",
}
PROJECTOR_NAMES = {"project_norm": "layer_norm", "project": "linear_1", "project_out": "linear_2"}


def tower(v: Config) -> list[Group]:
    """SigLIP 2 with a table of positions that is stretched to the image, and patches as flat vectors."""
    width = v.hidden_size
    before = projection("patch", width, v.num_channels * v.patch_size**2, True) + positions(
        v.size("num_patches"), width
    )
    after = norm("final_norm", width, True)
    if v.flag("vision_use_head", True):
        after += pooling_head(width, v.num_attention_heads, v.intermediate_size)
    prefix = ROOT + "encoder.layers.{layer}."
    return [
        families.outside("vision", "embedding", before, ROOT, TOWER_NAMES),
        *families.layers(tower_block, v, v.num_hidden_layers, "vision", prefix, TOWER_NAMES),
        families.outside("vision", "embedding", after, ROOT, TOWER_NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "lfm2", catalog, main=True)
    vision = families.part(c, "vision_config", "siglip2_vision_model", catalog)
    joined = vision.hidden_size * c.size("downsample_factor") ** 2
    inner, bias = c.size("projector_hidden_size"), c.flag("projector_bias", True)
    projector = projection("project", inner, joined, bias) + projection(
        "project_out", text.hidden_size, inner, bias
    )
    if c.flag("projector_use_layernorm", True):
        projector = norm("project_norm", joined, True) + projector
    last = norm("final_norm", text.hidden_size) + families.unembed(text, c)
    return [
        *families.decoder(sys.modules[__name__], text, c)[:-1],
        families.outside("text", "head", last, names=NAMES),
        *tower(vision),
        families.outside(
            "projector", "embedding", projector, "model.multi_modal_projector.", PROJECTOR_NAMES
        ),
    ]
