"""Qwen's vision towers: patches of two frames, plain transformer layers, and a merger of 2 x 2 patches."""

from __future__ import annotations

from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.core import lower
from llmcalc.model.layers.encoders import tower_attention, tower_mlp
from llmcalc.model.layers.hybrid import merger, vision_layer, volume_patches

TEXT_PREFIX = "model.language_model.layers.{layer}"
TEXT_NAMES = {"embedding": "model.language_model.embed_tokens", "final_norm": "model.language_model.norm"}
"""Where the decoder stands in the checkpoints of the multimodal models, from Qwen3-VL on."""

ROOT = "model.visual."
NAMES = {
    "patch": "patch_embed.proj",
    "position": "pos_embed",
    "attn_norm": "norm1",
    "qkv": "attn.qkv",
    "output": "attn.proj",
    "ffn_norm": "norm2",
    "up": "mlp.linear_fc1",
    "down": "mlp.linear_fc2",
    "merge_norm": "norm",
    "merge_up": "linear_fc1",
    "merge_down": "linear_fc2",
}


def tower_block(v: Config, layer: int) -> Block:
    return vision_layer(v.hidden_size, v.size("num_heads"), v.intermediate_size)


def tower(v: Config, root: str = ROOT, deep: int = 0) -> list[Group]:
    """The tower of Qwen3-VL and later, with its merger.

    Qwen3-VL also merges what some inner layers see ("deepstack"), with a merger for each; `deep` of
    them where the configuration does not list them. The list is empty from Qwen3.5 on.
    """
    joined = v.size("spatial_merge_size") ** 2
    width, out = v.hidden_size, v.size("out_hidden_size")
    before = volume_patches(
        width,
        v.size("in_channels"),
        v.size("temporal_patch_size"),
        v.patch_size,
        v.size("num_position_embeddings"),
    )
    groups = [
        families.outside("vision", "embedding", before, root, NAMES),
        *families.layers(tower_block, v, v.depth, "vision", f"{root}blocks.{{layer}}.", NAMES),
        families.outside("projector", "embedding", merger(width, joined, out), f"{root}merger.", NAMES),
    ]
    if v.lookup("deepstack_visual_indexes") is not MISSING:
        deep = len(v.indices("deepstack_visual_indexes"))
    if deep:
        made = lower(merger(width, joined, out, norm_width=width * joined))
        prefix = f"{root}deepstack_merger_list.{{layer}}."
        indices = tuple(range(deep))
        groups.append(Group("projector", "layer", indices, made.tensors, (), made.ops, prefix, NAMES))
    return groups


OLD_ROOT = "visual."
OLD_NAMES = {
    **NAMES,
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "gate": "mlp.gate_proj",
    "merge_norm": "merger.ln_q",
    "merge_up": "merger.mlp.0",
    "merge_down": "merger.mlp.2",
}
GATED_NAMES = {**OLD_NAMES, "up": "mlp.up_proj", "down": "mlp.down_proj"}
"""Qwen2.5-VL, whose towers have a gated MLP."""


def old_tower(
    v: Config, width: int, ffn: int, out: int, *, gated: bool, kv_heads: int = 0, root: str = OLD_ROOT
) -> list[Group]:
    """The towers before Qwen3-VL: rotary positions, patches without a bias.

    Qwen2-VL has LayerNorms and a plain MLP, Qwen2.5-VL RMSNorms and a gated one.
    """
    names = GATED_NAMES if gated else OLD_NAMES
    colors = v.size("in_channels") if v.lookup("in_chans") is MISSING else v.size("in_chans")
    before = volume_patches(width, colors, v.size("temporal_patch_size"), v.patch_size, bias=False)
    joined, heads = v.size("spatial_merge_size") ** 2, v.size("num_heads")

    def layer_block(v: Config, layer: int) -> Block:
        return (
            norm("attn_norm", width, not gated)
            + tower_attention(width, heads, kv_heads=kv_heads, fused=True)
            + norm("ffn_norm", width, not gated)
            + tower_mlp(width, ffn, gated=gated)
        )

    after = merger(width, joined, out, norm_bias=not gated)
    return [
        families.outside("vision", "embedding", before, root, names),
        *families.layers(layer_block, v, v.depth, "vision", f"{root}blocks.{{layer}}.", names),
        families.outside("projector", "embedding", after, root, names),
    ]
