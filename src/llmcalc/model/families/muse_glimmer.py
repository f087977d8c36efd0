"""Muse Glimmer, multimodal: the text model, a vision tower of windows and full layers, and an adapter."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import muse_glimmer_text
from llmcalc.model.families._multimodal import text as text_model
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import linear, table
from llmcalc.model.layers.hybrid import vision_layer

ROOT = "model.vision_tower."
NAMES = {
    "patch": "patch_embedder.patch_embedding",
    "position": "patch_embedder.position_embedding_table",
    "first_norm": "ln_pre",
    "final_norm": "ln_post",
    "attn_norm": "norm1",
    "query": "attn.q_proj",
    "key": "attn.k_proj",
    "value": "attn.v_proj",
    "output": "attn.proj",
    "ffn_norm": "norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "adapter_up": "vision_adapter.fc1",
    "adapter_down": "vision_adapter.fc2",
    "projection": "vision_projection",
}
COLORS = 3


def tower_block(v: Config, layer: int) -> Block:
    return vision_layer(v.hidden_size, v.num_attention_heads, v.intermediate_size, fused=False)


def tower(v: Config) -> list[Group]:
    v.read |= {"layer_types", "max_position_embeddings", "merge_size"}
    width = v.hidden_size
    before = (
        linear("patch", width, COLORS * v.size("patch_temporal") * v.patch_size**2)
        + table("position", v.size("pos_emb_height") * v.size("pos_emb_width"), width)
        + norm("first_norm", width, True)
        + norm("final_norm", width, True)
    )
    return [
        families.outside("vision", "embedding", before, ROOT, NAMES),
        *families.layers(tower_block, v, v.num_hidden_layers, "vision", ROOT + "layers.{layer}.", NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "muse_glimmer_text", catalog, main=True)
    vision = families.part(c, "vision_config", "muse_glimmer_vision", catalog)
    inner = c.size("projector_hidden_size")
    adapter = (
        linear("adapter_up", inner, c.size("out_hidden_size"))
        + linear("adapter_down", inner, inner)
        + linear("projection", text.hidden_size, inner)
    )
    return [
        *text_model(muse_glimmer_text, text, c),
        *tower(vision),
        families.outside("projector", "embedding", adapter, "model.", NAMES),
    ]
