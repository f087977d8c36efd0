"""Qwen3.5 to 3.8 MoE, the text model: Qwen3.5's layers, with routed experts beside a gated shared one."""

import sys

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import qwen2_moe, qwen3_5_text
from llmcalc.model.families._blocks import pre_norm
from llmcalc.model.families.qwen3_5_text import GGUF_NAMES, split
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, moe

__all__ = ["GGUF_NAMES", "NAMES", "block", "describe", "feed_forward", "split"]

NAMES = {
    **qwen3_5_text.NAMES,
    **qwen2_moe.NAMES,
    "expert_gate_up": "mlp.experts.gate_up_proj",
    "expert_down": "mlp.experts.down_proj",
}


def feed_forward(c: Config, layer: int) -> Block:
    c.read |= {"mlp_only_layers"}
    return moe(
        c.hidden_size,
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        fused=True,
        upright=True,
        shared_ffn=c.shared_expert_intermediate_size,
        shared_gate=True,
    )


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, qwen3_5_text.mixer(c, layer), feed_forward(c, layer))


def describe(c: Config, catalog: Catalog) -> list[Group]:
    return families.decoder(sys.modules[__name__], c) + qwen3_5_text.prediction(c, feed_forward, NAMES)
