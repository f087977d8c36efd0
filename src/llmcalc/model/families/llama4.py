"""Llama 4, multimodal: the text model, a vision tower with a pixel-shuffling adapter, and a projector."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import llama4_text
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm, tower_layer
from llmcalc.model.layers.encoders import linear, table

ROOT = "vision_model."
NAMES = {
    "patch": "patch_embedding.linear",
    "class": "class_embedding",
    "position": "positional_embedding_vlm",
    "first_norm": "layernorm_pre",
    "final_norm": "layernorm_post",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "adapter_up": "vision_adapter.mlp.fc1",
    "adapter_down": "vision_adapter.mlp.fc2",
    "projection": "multi_modal_projector.linear_1",
}


def tower_block(v: Config, layer: int) -> Block:
    return tower_layer(v.hidden_size, v.num_attention_heads, v.intermediate_size)


def adapter(v: Config) -> Block:
    """What reads four neighbouring patches as one, shuffled together."""
    v.read |= {"pixel_shuffle_ratio"}
    inner, out = v.size("projector_input_dim"), v.size("projector_output_dim")
    return linear("adapter_up", inner, v.intermediate_size) + linear("adapter_down", out, out)


def tower(v: Config) -> list[Group]:
    width, side = v.hidden_size, v.image_size // v.patch_size
    before = (
        linear("patch", width, v.num_channels * v.patch_size**2)
        + table("class", width, part="")
        + table("position", side * side + 1, width, part="")
        + norm("first_norm", width, True)
    )
    place = ROOT + "model.layers.{layer}."
    after = norm("final_norm", width, True)
    return [
        families.outside("vision", "embedding", before, ROOT, NAMES),
        *families.layers(tower_block, v, v.num_hidden_layers, "vision", place, NAMES),
        families.outside("vision", "embedding", after, ROOT, NAMES),
        families.outside("projector", "embedding", adapter(v), ROOT, NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "llama4_text", catalog, main=True)
    vision = families.part(c, "vision_config", "llama4_vision_model", catalog)
    projector = linear("projection", text.hidden_size, vision.size("vision_output_dim"))
    return [
        *families.decoder(llama4_text, text, c, "language_model."),
        *tower(vision),
        families.outside("projector", "embedding", projector, "", NAMES),
    ]
