"""Mellum 2: Qwen3's attention with windows where listed, and routed experts where listed."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm, sparse
from llmcalc.model.layers import Block, moe


def experts(c: Config) -> Block:
    routed = c.optional("num_experts") or c.num_local_experts
    return moe(c.hidden_size, routed, c.num_experts_per_tok, c.moe_intermediate_size)


def block(c: Config, layer: int) -> Block:
    c.read |= {"intermediate_size", "num_nextn_predict_layers", "num_mtp_layers"}
    kinds, window, bias = c.layer_types(), c.window(), c.flag("attention_bias")
    if kinds is None and window is not None:
        c.unproven["layer_types"] = f"{c.label} does not say layer_types; full attention is assumed"
    window = window if kinds is not None and kinds[layer] == "sliding_attention" else None
    attention = grouped(c, bias=bias, out_bias=bias, qk_norm="head", window=window)
    return pre_norm(c, attention, experts(c) if sparse(c, layer) else dense(c))
