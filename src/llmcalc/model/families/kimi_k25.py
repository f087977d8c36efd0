"""Kimi K2.5 and later: Kimi K2's text model, a MoonViT tower and a patch merger."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import deepseek_v3
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import convolution, linear, table
from llmcalc.model.layers.hybrid import vision_layer

ROOT, PROJECTOR = "vision_tower.", "mm_projector."
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
    "merge_norm": "pre_norm",
    "merge": "proj.0",
    "merge_out": "proj.2",
}
RENAMES = {
    "hidden_size": "vt_hidden_size",
    "intermediate_size": "vt_intermediate_size",
    "num_attention_heads": "vt_num_attention_heads",
    "num_hidden_layers": "vt_num_hidden_layers",
    "pos_emb_height": "init_pos_emb_height",
    "pos_emb_width": "init_pos_emb_width",
    "pos_emb_time": "init_pos_emb_time",
}
COLORS = 3


def tower_block(v: Config, layer: int) -> Block:
    return vision_layer(v.hidden_size, v.num_attention_heads, v.intermediate_size)


def joined(v: Config) -> int:
    """Patches that the merger joins into a token."""
    value = v.lookup("merge_kernel_size")
    if not isinstance(value, list):
        return 4
    product = 1
    for side in value:
        product *= v._checked("merge_kernel_size", side)
    return product


def towers(v: Config, text: Config, projector: str, names: dict[str, str]) -> list[Group]:
    """The tower and the merger, which reads a token of several patches."""
    width, size, many = v.hidden_size, v.patch_size, joined(v)
    before = (
        convolution("patch", width, COLORS, size, size)
        + table("position", v.size("pos_emb_height"), v.size("pos_emb_width"), width)
        + norm("final_norm", width, True)
    )
    merger = (
        norm("merge_norm", width, True)
        + linear("merge", width * many, width * many, bias=True)
        + linear("merge_out", text.hidden_size, width * many, bias=True)
    )
    place = ROOT + "encoder.blocks.{layer}."
    return [
        families.outside("vision", "embedding", before, ROOT, names),
        *families.layers(tower_block, v, v.num_hidden_layers, "vision", place, names),
        families.outside("projector", "embedding", merger, projector, names),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "deepseek_v3", catalog, main=True)
    defaults = (catalog.lookup("class_defaults", "kimi_k25_vision") or {}).get("defaults") or {}
    v = c.part("vision_config", {RENAMES.get(key, key): value for key, value in defaults.items()}, RENAMES)
    v.read |= {"init_pos_emb_time", "pos_emb_time", "mm_hidden_size", "text_hidden_size"}
    return [
        *families.decoder(deepseek_v3, text, c, "language_model."),
        *families.prediction(deepseek_v3, text),
        *towers(v, text, PROJECTOR, NAMES),
    ]
