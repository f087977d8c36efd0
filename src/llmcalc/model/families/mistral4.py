"""Mistral Small 4: latent attention with a low-rank query, experts with a shared one in every layer."""

import sys

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import deepseek_v2, mistral3
from llmcalc.model.families._blocks import pre_norm
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block

NAMES = {
    "expert_gate_up": "mlp.experts.gate_up_proj",
    "expert_down": "mlp.experts.down_proj",
    "gguf:expert_gate_up": "ffn_gate_up_exps",
}


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, deepseek_v2.attention(c), deepseek_v2.feed_forward(c, layer, fused=True))


def describe(c: Config, catalog: Catalog) -> list[Group]:
    if isinstance(c.raw.get("text_config"), dict):
        return mistral3.describe(c, catalog)
    return families.decoder(sys.modules[__name__], c)
