"""MiMo V2 Flash: a full layer to five with a window and sinks, which have twice the KV heads.

Values are narrower than keys; the first layer is dense, the others have experts.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, each, pre_norm
from llmcalc.model.layers import Block, gqa, moe

NAMES = {"sinks": "self_attn.attention_sink_bias"}


def is_windowed(c: Config, layer: int) -> bool:
    """By `layer_types`, or by 1 in `hybrid_layer_pattern`; as published the first and every sixth is full."""
    kinds = c.layer_types("hybrid_layer_pattern")
    if kinds is not None:
        return kinds[layer] == "sliding_attention"
    pattern = each(c, "hybrid_layer_pattern", 0, 1)
    return bool(pattern[layer]) if pattern else layer > 0 and (layer + 1) % 6 != 0


def attention(c: Config, layer: int) -> Block:
    window, bias = c.window(), c.flag("attention_bias")
    c.read |= {"attention_chunk_size", "sliding_window_size"}
    if not is_windowed(c, layer):
        heads, kv_heads, width, value_dim = (
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            c.v_head_dim,
        )
        sinks, window = c.flag("add_full_attention_sink_bias"), None
    else:
        heads = c.size("swa_num_attention_heads", c.num_attention_heads)
        kv_heads = c.size("swa_num_key_value_heads", 2 * c.num_key_value_heads)
        width, value_dim = c.size("swa_head_dim", c.head_dim), c.size("swa_v_head_dim", c.v_head_dim)
        sinks = c.flag("add_swa_attention_sink_bias", True)
    return gqa(
        c.hidden_size, heads, kv_heads, width, value_dim=value_dim, bias=bias, sinks=sinks, window=window
    )


def is_sparse(c: Config, layer: int) -> bool:
    words = each(c, "mlp_layer_types", "dense", "sparse")
    numbers = each(c, "moe_layer_freq", 0, 1)
    if words is not None:
        return bool(words[layer] == "sparse")
    return bool(numbers[layer]) if numbers else layer > 0


def block(c: Config, layer: int) -> Block:
    c.read |= {"intermediate_size", "num_nextn_predict_layers"}
    if not is_sparse(c, layer):
        return pre_norm(c, attention(c, layer), dense(c))
    experts = moe(
        c.hidden_size,
        c.n_routed_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=True,
        shared_ffn=(c.optional("n_shared_experts") or 0) * c.moe_intermediate_size,
    )
    return pre_norm(c, attention(c, layer), experts)
