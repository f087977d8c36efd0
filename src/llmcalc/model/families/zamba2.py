"""Zamba 2: Mamba-2 layers, and shared transformer blocks that are stored once and run at many layers.

The blocks take turns. Each layer that runs one adds low-rank adapters of its own to it.
"""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import _hybrid, unembed, zamba
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, mamba2, mlp, norm, projection
from llmcalc.model.layers.hybrid import adapter, wide_attention

NAMES = {**zamba.NAMES, "dt_bias": "mamba.dt_bias", "ssm_norm": "mamba.norm"}
SHARED_NAMES = {
    "gate_up": "feed_forward.gate_up_proj",
    "down": "feed_forward.down_proj",
    "ffn_norm": "pre_ff_layernorm",
}
ADAPTERS = {"query": "q", "key": "k", "value": "v"}


def mixer(c: Config) -> Block:
    inner, heads = c.size("mamba_expand") * int(c.hidden_size), c.size("n_mamba_heads")
    return norm("mixer_norm", c.hidden_size) + mamba2(
        c.hidden_size,
        heads,
        _hybrid.head_width(c, "mamba_headdim", inner, heads),
        c.size("mamba_ngroups"),
        c.size("mamba_d_state"),
        c.size("mamba_d_conv"),
        bias=c.flag("add_bias_linear"),
        conv_bias=c.flag("use_conv_bias", True),
        state=c.state_dtype(),
    )


def ffn(c: Config) -> int:
    return c.optional("intermediate_size") or 4 * int(c.hidden_size)


def transformer(c: Config) -> Block:
    width, heads = 2 * int(c.hidden_size), c.num_attention_heads
    c.read |= {
        "attention_hidden_size",
        "attention_head_dim",
        "kv_channels",
        "num_query_groups",
        "ffn_hidden_size",
    }
    return (
        norm("attn_norm", width)
        + wide_attention(c.hidden_size, width, heads, c.num_key_value_heads, width // heads)
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, ffn(c), fused=True, bias=c.flag("add_bias_linear"))
    )


def adapters(c: Config, order: int) -> tuple[Block, dict[str, str]]:
    """The adapters of one layer, and where they stand in the block."""
    rank, width = c.size("adapter_rank"), 2 * int(c.hidden_size)
    block = adapter("mlp_adapter", 2 * ffn(c), rank, c.hidden_size)
    places = {"mlp_adapter": "feed_forward.gate_up_proj_adapter_list"}
    if c.flag("use_shared_attention_adapter"):
        for role, letter in ADAPTERS.items():
            block += adapter(f"{role}_adapter", width, rank, width)
            places[f"{role}_adapter"] = f"self_attn.linear_{letter}_adapter_list"
    names = {f"{role}_a": f"{place}.{order}.0" for role, place in places.items()}
    names |= {f"{role}_b": f"{place}.{order}.1" for role, place in places.items()}
    return block, names


def describe(c: Config, catalog: Catalog) -> list[Group]:
    c.check("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads")
    named = _hybrid.stated_kinds(c, "layers_block_type", "layer_types")
    c.read |= {"hybrid_layer_ids"}
    plain = [layer for layer, kind in enumerate(named) if kind != "hybrid"]
    joint = [layer for layer, kind in enumerate(named) if kind == "hybrid"]
    inside = {role: f"mamba_decoder.{name}" for role, name in NAMES.items()}
    hybrid = mixer(c) + projection("mixing", c.hidden_size, c.hidden_size)
    groups = [
        families.outside("text", "embedding", embedding(c.vocab_size, c.hidden_size)),
        _hybrid.shared(NAMES, zamba.LAYER, plain, mixer(c)),
        _hybrid.shared({**inside, "mixing": "linear"}, zamba.LAYER, joint, hybrid),
    ]
    blocks = c.size("num_mem_blocks")
    for order, layer in enumerate(joint):
        root = f"model.layers.{joint[order % blocks]}.shared_transformer."
        if order < blocks:
            turns = joint[order::blocks]
            groups.append(_hybrid.shared(SHARED_NAMES, root, turns, transformer(c), 1))
        own, names = adapters(c, order)
        groups.append(_hybrid.shared(names, root, [layer], own))
    head = norm("final_norm", c.hidden_size) + unembed(c)
    groups.append(families.outside("text", "head", head, names=NAMES))
    return [group for group in groups if group.place != "layer" or group.layers]
