"""FlexOlmo: OLMo 2's norms and attention, each expert as large as OLMo 2's MLP."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import post_norm
from llmcalc.model.families.olmo2 import NAMES
from llmcalc.model.families.olmoe import attention, experts
from llmcalc.model.layers import Block

__all__ = ["NAMES", "block"]


def block(c: Config, layer: int) -> Block:
    return post_norm(c, attention(c), experts(c))
