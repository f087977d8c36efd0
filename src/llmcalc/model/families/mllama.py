"""Llama 3.2 Vision: the text model with cross-attention, and a vision tower over up to four tiles.

The tower has gated global layers after its local ones, and passes on what some inner layers saw.
"""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import mllama_text_model
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import convolution, linear, table, tower_attention, tower_mlp
from llmcalc.model.layers.sharing import branch_gates

ROOT = "vision_model."
NAMES = {
    "patch": "patch_embedding",
    "class": "class_embedding",
    "position_gate": "gated_positional_embedding.gate",
    "position": "gated_positional_embedding.embedding",
    "tile_position": "gated_positional_embedding.tile_embedding",
    "before_gate": "pre_tile_positional_embedding.gate",
    "before_tile": "pre_tile_positional_embedding.embedding",
    "after_gate": "post_tile_positional_embedding.gate",
    "after_tile": "post_tile_positional_embedding.embedding",
    "first_norm": "layernorm_pre",
    "final_norm": "layernorm_post",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "attn_branch_gate": "gate_attn",
    "ffn_branch_gate": "gate_ffn",
}
ASPECT_RATIOS = 8
"""Ways to arrange up to four tiles, where the file does not list them."""


def local_block(v: Config, layer: int) -> Block:
    width = v.hidden_size
    return (
        norm("attn_norm", width, True)
        + tower_attention(width, v.num_attention_heads, bias=False)
        + norm("ffn_norm", width, True)
        + tower_mlp(width, v.intermediate_size)
    )


def global_block(v: Config, layer: int) -> Block:
    return local_block(v, layer) + branch_gates("attn_branch_gate", "ffn_branch_gate")


def tokens(v: Config) -> int:
    """Positions of one tile: its patches and a class token."""
    return int((v.image_size // v.patch_size) ** 2 + 1)


def before(v: Config) -> Block:
    width, tiles, size = v.hidden_size, v.size("max_num_tiles"), v.patch_size
    stated = v.lookup("supported_aspect_ratios")
    ratios = (len(stated) if isinstance(stated, list) else ASPECT_RATIOS) + 1
    return (
        convolution("patch", width, v.num_channels, size, size, bias=False)
        + table("class", width, part="")
        + table("position_gate", 1, part="")
        + table("position", tokens(v), width, part="")
        + table("tile_position", ratios, tiles * tokens(v) * width)
        + table("before_gate", 1, part="")
        + table("before_tile", ratios, tiles * width)
        + table("after_gate", 1, part="")
        + table("after_tile", ratios, tiles * width)
        + norm("first_norm", width, True)
        + norm("final_norm", width, True)
    )


def tower(v: Config) -> list[Group]:
    v.read |= {"intermediate_layers_indices"}
    inner, outer = ROOT + "transformer.layers.{layer}.", ROOT + "global_transformer.layers.{layer}."
    return [
        families.outside("vision", "embedding", before(v), ROOT, NAMES),
        *families.layers(local_block, v, v.num_hidden_layers, "vision", inner, NAMES),
        *families.layers(global_block, v, v.size("num_global_layers"), "vision", outer, NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "mllama_text_model", catalog, main=True)
    vision = families.part(c, "vision_config", "mllama_vision_model", catalog)
    if c.lookup("tie_word_embeddings") in (MISSING, None):
        c.defaults["tie_word_embeddings"] = text.flag("tie_word_embeddings")
    projector = linear("projection", text.hidden_size, vision.size("vision_output_dim"), bias=True)
    names = {"projection": "multi_modal_projector"}
    return [
        *families.decoder(mllama_text_model, text, c, "language_model."),
        *tower(vision),
        families.outside("projector", "embedding", projector, "", names),
    ]


def streams(c: Config) -> dict[str, int]:
    """One image of as many tiles as the model takes."""
    vision = c.parts[1]
    return {"image": vision.size("max_num_tiles") * tokens(vision)}
