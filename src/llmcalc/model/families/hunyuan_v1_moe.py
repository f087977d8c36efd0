"""Hunyuan A13B: Hunyuan's attention; experts in every layer beside a shared one of the same width."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import at, pre_norm
from llmcalc.model.families.hunyuan_v1_dense import NAMES as ATTENTION_NAMES
from llmcalc.model.families.hunyuan_v1_dense import attention
from llmcalc.model.layers import Block, moe

NAMES = {
    **ATTENTION_NAMES,
    "router": "mlp.gate.wg",
    "shared_gate": "mlp.shared_mlp.gate_proj",
    "shared_up": "mlp.shared_mlp.up_proj",
    "shared_down": "mlp.shared_mlp.down_proj",
}


def block(c: Config, layer: int) -> Block:
    c.read |= {"moe_layer_num_skipped", "num_experts_per_tok"}
    width = c.intermediate_size
    experts = moe(
        c.hidden_size,
        at(c, "num_experts", layer),
        at(c, "moe_topk", layer),
        at(c, "moe_intermediate_size", layer, width),
        shared_ffn=at(c, "num_shared_expert", layer, 1) * width,
    )
    return pre_norm(c, attention(c), experts)
