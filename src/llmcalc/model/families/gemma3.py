"""Gemma 3, multimodal: a SigLIP tower, a projector and the text model, each counted apart."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import gemma3_text
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm, patches, projection, tower_layer

TOWER = "vision_tower.vision_model."
TOWER_NAMES = {
    "patch": "embeddings.patch_embedding",
    "position": "embeddings.position_embedding",
    "attn_norm": "layer_norm1",
    "output": "self_attn.out_proj",
    "ffn_norm": "layer_norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "final_norm": "post_layernorm",
}
PROJECTOR_NAMES = {"projection": "mm_input_projection", "soft_embedding_norm": "mm_soft_emb_norm"}


def tower_block(v: Config, layer: int) -> Block:
    return tower_layer(v.hidden_size, v.num_attention_heads, v.intermediate_size)


def tower(v: Config) -> list[Group]:
    """SigLIP without its pooling head."""
    side = v.image_size // v.patch_size
    before = patches(v.hidden_size, v.num_channels, v.patch_size, side * side)
    layers = families.layers(
        tower_block, v, v.num_hidden_layers, "vision", TOWER + "encoder.layers.{layer}.", TOWER_NAMES
    )
    return [
        families.outside("vision", "embedding", before, TOWER, TOWER_NAMES),
        *layers,
        families.outside("vision", "embedding", norm("final_norm", v.hidden_size, True), TOWER, TOWER_NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "gemma3_text", catalog, main=True)
    vision = families.part(c, "vision_config", "siglip_vision_model", catalog)
    vision.lookup("vision_use_head")
    # Stored input first, as a bare parameter.
    projector = projection("projection", text.hidden_size, vision.hidden_size) + norm(
        "soft_embedding_norm", vision.hidden_size
    )
    return [
        *families.decoder(gemma3_text, text, c, "language_model."),
        *tower(vision),
        families.outside("projector", "embedding", projector, "multi_modal_projector.", PROJECTOR_NAMES),
    ]
