"""Vision towers that several families use: CLIP, SigLIP and Pixtral, from a file or by the name of one."""

from __future__ import annotations

from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families.gemma3 import TOWER_NAMES, tower_block
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm, patches
from llmcalc.model.layers.encoders import convolution, linear, table, tower_attention, tower_mlp
from llmcalc.model.layers.hybrid import pooling_head

CLIP_NAMES = {
    **TOWER_NAMES,
    "class": "embeddings.class_embedding",
    "first_norm": "pre_layrnorm",
}
SIGLIP_NAMES = {
    **TOWER_NAMES,
    "probe": "head.probe",
    "pool_qkv": "head.attention.in_proj",
    "pool_output": "head.attention.out_proj",
    "pool_norm": "head.layernorm",
    "pool_up": "head.mlp.fc1",
    "pool_down": "head.mlp.fc2",
}
TIMM_NAMES = {
    "patch": "patch_embed.proj",
    "position": "pos_embed",
    "attn_norm": "norm1",
    "qkv": "attn.qkv",
    "output": "attn.proj",
    "ffn_norm": "norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "final_norm": "norm",
    "probe": "attn_pool.latent",
    "pool_query": "attn_pool.q",
    "pool_kv": "attn_pool.kv",
    "pool_output": "attn_pool.proj",
    "pool_norm": "attn_pool.norm",
    "pool_up": "attn_pool.mlp.fc1",
    "pool_down": "attn_pool.mlp.fc2",
}
"""Names of a vision transformer of the timm library."""

PIXTRAL_NAMES = {
    "patch": "patch_conv",
    "first_norm": "ln_pre",
    "attn_norm": "attention_norm",
    "ffn_norm": "ffn_norm",
    "query": "attention.q_proj",
    "key": "attention.k_proj",
    "value": "attention.v_proj",
    "output": "attention.o_proj",
    "gate": "feed_forward.gate_proj",
    "up": "feed_forward.up_proj",
    "down": "feed_forward.down_proj",
}
CLIP_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "patch_size": 14,
}
SIGLIP_SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_channels": 3,
    "patch_size": 14,
}
NAMED = {
    "clip-vit-large-patch14-336": {**CLIP_LARGE, "image_size": 336},
    "clip-vit-large-patch14": {**CLIP_LARGE, "image_size": 224},
    "siglip-large-patch16-384": {**CLIP_LARGE, "patch_size": 16, "image_size": 384},
    "siglip-so400m-patch14-384": {**SIGLIP_SO400M, "image_size": 384},
    "siglip-so400m-patch14-224": {**SIGLIP_SO400M, "image_size": 224},
}
"""Published towers that a file may name instead of describing them."""


def named(c: Config, name: str) -> Config:
    """The configuration of a published tower."""
    plain = name.rsplit("/", 1)[-1].replace("_", "-")
    if plain not in NAMED:
        raise ConfigError(
            f"{c.label} names the vision tower {name[:60]!r}, which is unknown.",
            f"Known are {', '.join(sorted(NAMED))}.",
        )
    return Config(NAMED[plain], f"{c.label} {plain}", nested=True)


def clip_tower(v: Config, root: str) -> list[Group]:
    """CLIP: a class token beside the patches, norms before and after the layers."""
    width, side = v.hidden_size, v.image_size // v.patch_size
    before = (
        table("class", width, part="")
        + patches(width, v.num_channels, v.patch_size, side * side + 1, bias=False)
        + norm("first_norm", width, True)
    )
    return _tower(v, before, norm("final_norm", width, True), root, CLIP_NAMES)


def siglip_tower(v: Config, root: str, *, pooled: bool) -> list[Group]:
    """SigLIP: patches with a bias; `pooled` by a head that asks once for the whole image."""
    width, side = v.hidden_size, v.image_size // v.patch_size
    before = patches(width, v.num_channels, v.patch_size, side * side)
    after = norm("final_norm", width, True)
    if pooled:
        after += pooling_head(width, v.num_attention_heads, v.intermediate_size)
    return _tower(v, before, after, root, SIGLIP_NAMES)


def timm_block(v: Config, layer: int) -> Block:
    width = v.hidden_size
    attention = tower_attention(width, v.num_attention_heads, fused=True)
    mlp = tower_mlp(width, v.intermediate_size)
    return norm("attn_norm", width, True) + attention + norm("ffn_norm", width, True) + mlp


def timm_siglip_tower(v: Config, root: str) -> list[Group]:
    """SigLIP as the timm library stores it: one matrix for queries, keys and values."""
    width, side = v.hidden_size, v.image_size // v.patch_size
    before = convolution("patch", width, v.num_channels, v.patch_size, v.patch_size)
    before += table("position", 1, side * side, width, part="")
    after = norm("final_norm", width, True) + table("probe", 1, 1, width, part="")
    after += linear("pool_query", width, width, bias=True) + linear("pool_kv", 2 * width, width, bias=True)
    after += linear("pool_output", width, width, bias=True) + norm("pool_norm", width, True)
    after += tower_mlp(width, v.intermediate_size, prefix="pool_")
    place = root + "blocks.{layer}."
    return [
        families.outside("vision", "embedding", before, root, TIMM_NAMES),
        *families.layers(timm_block, v, v.num_hidden_layers, "vision", place, TIMM_NAMES),
        families.outside("vision", "embedding", after, root, TIMM_NAMES),
    ]


def _tower(v: Config, before: Block, after: Block, root: str, names: dict[str, str]) -> list[Group]:
    v.read |= {"projection_dim"}
    place = root + "encoder.layers.{layer}."
    return [
        families.outside("vision", "embedding", before, root, names),
        *families.layers(tower_block, v, v.num_hidden_layers, "vision", place, names),
        families.outside("vision", "embedding", after, root, names),
    ]


def pixtral_block(v: Config, layer: int) -> Block:
    width = v.hidden_size
    attention = tower_attention(width, v.num_attention_heads, head_dim=v.head_dim, bias=False)
    mlp = tower_mlp(width, v.intermediate_size, gated=True, bias=False)
    return norm("attn_norm", width) + attention + norm("ffn_norm", width) + mlp


def pixtral_tower(v: Config, root: str) -> list[Group]:
    """Pixtral: built like a decoder, with rotary positions: images of any shape, up to `image_size`."""
    v.read |= {"image_size"}
    width, size = v.hidden_size, v.patch_size
    before = convolution("patch", width, v.num_channels, size, size, bias=False) + norm("first_norm", width)
    place = root + "transformer.layers.{layer}."
    return [
        families.outside("vision", "embedding", before, root, PIXTRAL_NAMES),
        *families.layers(pixtral_block, v, v.num_hidden_layers, "vision", place, PIXTRAL_NAMES),
    ]
