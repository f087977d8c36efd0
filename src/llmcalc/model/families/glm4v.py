"""GLM 4.1V: GLM 4's text model, a vision tower of RMSNorms and gated MLPs, and a gated patch merger."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import glm4v_text
from llmcalc.model.families._multimodal import text as text_model
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import convolution, linear, table, tower_attention, tower_mlp
from llmcalc.model.layers.hybrid import volume_patches

ROOT = "model.visual."
NAMES = {
    "patch": "patch_embed.proj",
    "position": "embeddings.position_embedding",
    "first_norm": "post_conv_layernorm",
    "attn_norm": "norm1",
    "qkv": "attn.qkv",
    "output": "attn.proj",
    "ffn_norm": "norm2",
    "final_norm": "post_layernorm",
    "downsample": "downsample",
    "merge": "merger.proj",
    "merge_norm": "merger.post_projection_norm",
    "merge_gate": "merger.gate_proj",
    "merge_up": "merger.up_proj",
    "merge_down": "merger.down_proj",
}


def tower_block(v: Config, layer: int) -> Block:
    width, bias = v.hidden_size, v.flag("attention_bias")
    # The MLP is as wide as what the tower puts out; `intermediate_size` is the merger's.
    return (
        norm("attn_norm", width)
        + tower_attention(width, v.size("num_heads"), bias=bias, out_bias=False, fused=True)
        + norm("ffn_norm", width)
        + tower_mlp(width, v.size("out_hidden_size"), gated=True, bias=False)
    )


def tower(v: Config) -> list[Group]:
    width, out, joined = v.hidden_size, v.size("out_hidden_size"), v.size("spatial_merge_size")
    side = v.image_size // v.patch_size
    before = volume_patches(width, v.size("in_channels"), v.size("temporal_patch_size"), v.patch_size)
    before += table("position", side * side, width) + norm("first_norm", width) + norm("final_norm", width)
    after = (
        convolution("downsample", out, width, joined, joined)
        + linear("merge", out, out)
        + norm("merge_norm", out, True)
        + tower_mlp(out, v.intermediate_size, gated=True, bias=False, prefix="merge_")
    )
    return [
        families.outside("vision", "embedding", before, ROOT, NAMES),
        *families.layers(tower_block, v, v.depth, "vision", ROOT + "blocks.{layer}.", NAMES),
        families.outside("projector", "embedding", after, ROOT, NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "glm4v_text", catalog, main=True)
    vision = families.part(c, "vision_config", "glm4v_vision", catalog)
    return [*text_model(glm4v_text, text, c), *tower(vision)]
