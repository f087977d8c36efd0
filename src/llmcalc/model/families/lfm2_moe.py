"""LFM2 MoE: LFM2's mixers; dense first layers, then routed experts."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import lfm2
from llmcalc.model.families._blocks import dense, pre_norm
from llmcalc.model.families.lfm2 import GGUF_NAMES, head
from llmcalc.model.layers import Block, moe

__all__ = ["GGUF_NAMES", "NAMES", "block", "head"]

NAMES = {
    **lfm2.NAMES,
    "router": "feed_forward.gate",
    "router_correction": "feed_forward.expert_bias",
    "expert_gate": "feed_forward.experts.{expert}.w1",
    "expert_up": "feed_forward.experts.{expert}.w3",
    "expert_down": "feed_forward.experts.{expert}.w2",
}


def feed_forward(c: Config, layer: int) -> Block:
    c.read |= {"intermediate_size"}
    if layer < c.number("num_dense_layers"):
        return dense(c)
    return moe(
        c.hidden_size,
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=c.flag("use_expert_bias", True),
    )


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, lfm2.mixer(c, layer), feed_forward(c, layer))
