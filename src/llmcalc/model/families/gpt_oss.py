"""gpt-oss: a window of 128 in every other layer, attention sinks, biases everywhere, fused experts."""

from llmcalc.model.configuration import Config
from llmcalc.model.layers import Block, gqa, moe, norm

NAMES = {
    "router": "mlp.router",
    "expert_gate_up": "mlp.experts.gate_up_proj",
    "expert_down": "mlp.experts.down_proj",
}


def block(c: Config, layer: int) -> Block:
    kinds = c.layer_types("sliding_window_pattern")
    every = 0 if kinds else c.pattern("sliding_window_pattern", known=2)
    windowed = kinds[layer] == "sliding_attention" if kinds else (layer + 1) % every != 0
    window = c.window()
    bias = c.flag("attention_bias", True)
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(
            c.hidden_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            bias=bias,
            out_bias=bias,
            sinks=True,
            window=window if windowed else None,
        )
        + norm("ffn_norm", c.hidden_size)
        + moe(
            c.hidden_size,
            c.num_local_experts,
            c.num_experts_per_tok,
            c.intermediate_size,
            bias=True,
            router_bias=True,
            fused=True,
        )
    )
