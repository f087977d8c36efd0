"""gpt-oss: a window of 128 in every other layer, attention sinks, biases everywhere, fused experts."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.layers import Block, moe

NAMES = {
    "router": "mlp.router",
    "expert_gate_up": "mlp.experts.gate_up_proj",
    "expert_down": "mlp.experts.down_proj",
}
GGUF_NAMES = {"ffn_norm": "post_attention_norm"}


def block(c: Config, layer: int) -> Block:
    kinds = c.layer_types("sliding_window_pattern")
    every = 0 if kinds else c.pattern("sliding_window_pattern", known=2)
    windowed = kinds[layer] == "sliding_attention" if kinds else (layer + 1) % every != 0
    window, bias = c.window(), c.flag("attention_bias", True)
    attention = grouped(c, bias=bias, out_bias=bias, sinks=True, window=window if windowed else None)
    experts = moe(
        c.hidden_size,
        c.num_local_experts,
        c.num_experts_per_tok,
        c.intermediate_size,
        bias=True,
        router_bias=True,
        fused=True,
    )
    return pre_norm(c, attention, experts)
