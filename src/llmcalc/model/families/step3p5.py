"""Step 3.5 and 3.7, the text model: three windows to a full layer, with more heads in the windows.

A gate on each head, dense first layers, then experts with a shared one; prediction modules with a
head of their own.
"""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, each, nested, pre_norm, windowed
from llmcalc.model.layers import Block, gqa, moe, norm, projection

NAMES = {
    "head_gate": "self_attn.g_proj",
    "expert_gate_up": "mlp.experts.gate_up_proj",
    "expert_down": "mlp.experts.down_proj",
}
DENSE_FIRST = 3
"""Layers before the first experts, where the file does not list them: transformers, Step3p7TextConfig."""


def sliding_heads(c: Config) -> int:
    """Query heads of a windowed layer: never those of a full one by default, for all releases differ."""
    if c.lookup("num_sliding_attention_heads") not in (MISSING, None):
        return c.size("num_sliding_attention_heads")
    if isinstance(c.raw.get("attention_other_setting"), dict):
        return int(nested(c, "attention_other_setting").num_attention_heads)
    raise ConfigError(
        f"{c.label} does not say how many heads its windowed layers have.",
        'Add "num_sliding_attention_heads".',
    )


def is_windowed(c: Config, layer: int) -> bool:
    return windowed(c, layer, "sliding_window_pattern")


def attention(c: Config, window: int | None) -> Block:
    heads = sliding_heads(c) if window else c.num_attention_heads
    bias, width = c.flag("attention_bias"), c.hidden_size
    kv_heads = c.size("num_key_value_heads", c.lookup("num_attention_groups"))
    made = gqa(width, heads, kv_heads, c.head_dim, bias=bias, out_bias=bias, qk_norm="head", window=window)
    return made + projection("head_gate", heads, width, out_axis="heads")


def is_sparse(c: Config, layer: int) -> bool:
    listed = each(c, "mlp_layer_types", "dense", "sparse")
    if listed is not None:
        return bool(listed[layer] == "sparse")
    stated = c.lookup("moe_layers_enum")
    if isinstance(stated, str):
        return str(layer) in stated.replace(" ", "").split(",")
    if isinstance(stated, list):
        return layer in c.indices("moe_layers_enum")
    return layer >= c.number("first_k_dense_replace", DENSE_FIRST)


def feed_forward(c: Config, layer: int) -> Block:
    if not is_sparse(c, layer):
        return dense(c, bias=c.flag("mlp_bias"))
    known = ("n_routed_experts", "num_experts", "moe_num_experts")
    experts = next((key for key in known if c.lookup(key) not in (MISSING, None)), known[0])
    chosen = "moe_top_k" if c.lookup("moe_top_k") not in (MISSING, None) else "num_experts_per_tok"
    return moe(
        c.hidden_size,
        c.size(experts),
        c.size(chosen),
        c.moe_intermediate_size,
        fused=True,
        upright=True,
        correction=c.flag("use_moe_router_bias", True),
        shared_ffn=c.size("share_expert_dim"),
    )


def block(c: Config, layer: int) -> Block:
    c.read |= {"n_shared_experts", "moe_router_scaling_factor", "swiglu_limits", "swiglu_limits_shared"}
    window = c.window()
    return pre_norm(c, attention(c, window if is_windowed(c, layer) else None), feed_forward(c, layer))


def mtp(c: Config) -> tuple[int, Block]:
    """A windowed layer with a dense MLP, and a head of its own."""
    width, count = c.hidden_size, c.number("num_nextn_predict_layers", stated_only=True)
    if not count:
        return 0, ()
    module = (
        norm("embedding_norm", width)
        + norm("hidden_norm", width)
        + projection("projection", width, 2 * width)
        + pre_norm(c, attention(c, c.window()), dense(c))
        + norm("final_norm", width)
        + unembed(c)
    )
    return count, module
