"""ERNIE 4.5 VL, the text model: text and image tokens have experts of their own, and share one more."""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm, sparse
from llmcalc.model.layers import Block, moe
from llmcalc.model.layers.encoders import vision_experts

NAMES = {
    "router": "mlp.text_moe.gate",
    "router_correction": "mlp.text_moe.gate.moe_statics.e_score_correction_bias",
    "expert_gate_up": "mlp.text_moe.experts.gate_up_proj",
    "expert_down": "mlp.text_moe.experts.down_proj",
    "vision_router": "mlp.vision_moe.gate",
    "vision_router_correction": "mlp.vision_moe.gate.moe_statics.e_score_correction_bias",
    "expert_vision_gate_up": "mlp.vision_moe.experts.gate_up_proj",
    "expert_vision_down": "mlp.vision_moe.experts.down_proj",
}
DENSE_FIRST = 1
"""Layers before the first experts, where the file does not list them: the makers' own files, 2025."""


def widths(c: Config) -> tuple[int, int]:
    """Width of a text expert and of an image expert."""
    value = c.lookup("moe_intermediate_size")
    if not isinstance(value, list) or len(value) != 2:
        raise ConfigError(
            f"{c.label}: moe_intermediate_size is no pair of a text and an image width.",
            'Write "moe_intermediate_size": [1536, 512].',
        )
    text, image = (c._checked("moe_intermediate_size", one) for one in value)
    return text, image


def block(c: Config, layer: int) -> Block:
    bias = c.flag("use_bias")
    attention = grouped(c, bias=bias, out_bias=bias)
    if not sparse(c, layer, DENSE_FIRST):
        return pre_norm(c, attention, dense(c, bias=bias))
    text, image = widths(c)
    experts, chosen = c.size("moe_num_experts"), c.size("moe_k")
    both = moe(
        c.hidden_size,
        experts,
        chosen,
        text,
        fused=True,
        upright=True,
        correction=True,
        correction_tag="main",
        shared_ffn=c.number("moe_num_shared_experts") * text,
    ) + vision_experts(c.hidden_size, experts, chosen, image)
    return pre_norm(c, attention, both)
