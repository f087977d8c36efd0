"""DeepSeek-VL2: DeepSeek V2's text model, with latent attention or without, and a SigLIP tower."""

import sys

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import deepseek_v2
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families._towers import named, timm_siglip_tower
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block
from llmcalc.model.layers.encoders import linear, table

NAMES = {"project": "layers.0", "project_out": "layers.2"}
JOINED = 4
"""Patches that the projector reads as one."""


def block(c: Config, layer: int) -> Block:
    if c.flag("use_mla", True):
        return deepseek_v2.block(c, layer)
    c.read |= {"kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"}
    return pre_norm(c, grouped(c, bias=c.flag("attention_bias")), deepseek_v2.feed_forward(c, layer))


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "language_config", "deepseek_v2", catalog, main=True)
    stated, how = c.part("vision_config", None), c.part("projector_config", None)
    stated.read |= {"layers", "width", "patch_size", "mlp_ratio"}
    name, kind = stated.lookup("model_name"), how.lookup("projector_type")
    if kind not in (MISSING, "downsample_mlp_gelu"):
        raise ConfigError(f"{how.label}: projector_type {kind!r} is unknown.", "Use downsample_mlp_gelu.")
    vision = named(c, "siglip-so400m-patch14-384" if name in (MISSING, None) else str(name))
    if stated.size("width", vision.hidden_size) != vision.hidden_size:
        raise ConfigError(f"{stated.label}: width is not that of {name}.", "Make them agree.")
    out = how.size("n_embed", text.hidden_size)
    how.read |= {"depth", "input_dim", "mlp_ratio", "downsample_ratio"}
    projector = linear("project", out, vision.hidden_size * JOINED, bias=True)
    projector += linear("project_out", out, out, bias=True)
    marks = table("image_newline", out, part="") + table("view_seperator", out, part="")
    c.read |= {"candidate_resolutions"}
    return [
        *families.decoder(sys.modules[__name__], text, c, "language."),
        *timm_siglip_tower(vision, "vision."),
        families.outside("projector", "embedding", projector, "projector.", NAMES),
        families.outside("projector", "embedding", marks),
    ]
