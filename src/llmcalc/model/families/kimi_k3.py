"""Kimi K3, multimodal: a MoonViT tower, a projector that joins patches, and Kimi Linear's text model."""

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import kimi_linear
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm, patches, projection
from llmcalc.model.layers.hybrid import grid_positions, vision_layer

NAMES = {
    "patch": "patch_embed.proj",
    "position": "patch_embed.pos_emb",
    "attn_norm": "norm0",
    "qkv": "wqkv",
    "output": "wo",
    "ffn_norm": "norm1",
    "up": "mlp.fc0",
    "down": "mlp.fc1",
    "final_norm": "encoder.final_layernorm",
    "project": "proj.0",
    "project_out": "proj.2",
    "project_norm": "post_norm",
}
TOWER = "vision_tower."


def joined(v: Config) -> int:
    """Patches that become one token."""
    sides = v.lookup("merge_kernel_size")
    if not isinstance(sides, list) or len(sides) != 2 or not all(isinstance(s, int) for s in sides):
        raise ConfigError(f"{v.label}: merge_kernel_size is not a pair.", "Give it as in [2, 2].")
    return int(sides[0] * sides[1])


def tower_block(v: Config, layer: int) -> Block:
    return vision_layer(
        v.size("vt_hidden_size"),
        v.size("vt_num_attention_heads"),
        v.size("vt_intermediate_size"),
        inner_width=v.size("qkv_hidden_size"),
        bias=v.flag("linear_bias"),
        norm_bias=False,
    )


def tower(v: Config) -> list[Group]:
    v.read |= {"init_pos_emb_time", "mm_hidden_size", "text_hidden_size"}  # times are fixed, not learned
    width = v.size("vt_hidden_size")
    before = patches(width, 3, v.patch_size, 0, bias=v.flag("patch_embed_proj_bias"))
    before += grid_positions(v.size("init_pos_emb_height"), v.size("init_pos_emb_width"), width)
    prefix = TOWER + "encoder.blocks.{layer}."
    return [
        families.outside("vision", "embedding", before, TOWER, NAMES),
        *families.layers(tower_block, v, v.size("vt_num_hidden_layers"), "vision", prefix, NAMES),
        families.outside("vision", "embedding", norm("final_norm", width), TOWER, NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "kimi_linear", catalog, main=True)
    vision = families.part(c, "vision_config", "kimi_k3_vision", catalog)
    width = vision.size("vt_hidden_size") * joined(vision)
    projector = (
        projection("project", width, width)
        + projection("project_out", text.hidden_size, width)
        + norm("project_norm", text.hidden_size)
    )
    names, root = families.names_of(kimi_linear), "language_model."
    return [
        *families.decoder(kimi_linear, text, c, root)[:-1],
        families.outside("text", "head", kimi_linear.head(text, c), root, names),
        *tower(vision),
        families.outside("projector", "embedding", projector, "mm_projector.", NAMES),
    ]


def split(c: Config) -> dict[str, int]:
    return kimi_linear.split(c)
