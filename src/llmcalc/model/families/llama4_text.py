"""Llama 4, the text model: three layers attend to chunks of 8,192, every fourth to all.

Routed experts with a shared one in every layer (Scout) or every other one (Maverick).
"""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.layers import Block, mlp, moe

NAMES = {
    "gate": "feed_forward.gate_proj",
    "up": "feed_forward.up_proj",
    "down": "feed_forward.down_proj",
    "router": "feed_forward.router",
    "expert_gate_up": "feed_forward.experts.gate_up_proj",
    "expert_down": "feed_forward.experts.down_proj",
    "shared_gate": "feed_forward.shared_expert.gate_proj",
    "shared_up": "feed_forward.shared_expert.up_proj",
    "shared_down": "feed_forward.shared_expert.down_proj",
}
PATTERN = 4
"""Every fourth layer is full, without rotary positions: Llama 4 model card, 2025."""


def is_chunked(c: Config, layer: int) -> bool:
    """Whether a layer sees its chunk only: by `layer_types`, else by where rotary positions are off."""
    kinds = c.layer_types("no_rope_layers", known=("full_attention", "chunked_attention"))
    if kinds is not None:
        return kinds[layer] == "chunked_attention"
    rotary = c.lookup("no_rope_layers")  # a 1 for each layer that has them, in spite of its name
    if isinstance(rotary, list) and rotary:
        if len(rotary) < c.num_hidden_layers:
            raise ConfigError(f"{c.label}: no_rope_layers is too short.", "Give one number for each layer.")
        return bool(rotary[layer])
    return (layer + 1) % c.size("no_rope_layer_interval", PATTERN) != 0


def is_sparse(c: Config, layer: int) -> bool:
    c.read |= {"interleave_moe_layer_step"}
    if c.lookup("moe_layers") not in (MISSING, None):
        return layer in c.indices("moe_layers")
    return (layer + 1) % c.size("interleave_moe_layer_step") == 0


def feed_forward(c: Config, layer: int) -> Block:
    c.read |= {"num_local_experts", "num_experts_per_tok", "intermediate_size_mlp"}
    if not is_sparse(c, layer):
        return mlp(c.hidden_size, c.size("intermediate_size_mlp"))
    return moe(
        c.hidden_size,
        c.num_local_experts,
        c.num_experts_per_tok,
        c.intermediate_size,
        fused=True,
        shared_ffn=c.intermediate_size,
    )


def block(c: Config, layer: int) -> Block:
    bias, chunk = c.flag("attention_bias"), c.window("attention_chunk_size")
    chunk = chunk if is_chunked(c, layer) else None
    kind = "chunk" if chunk else ""
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias, window=chunk, kind=kind), feed_forward(c, layer))
