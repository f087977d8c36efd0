"""Youtu-LLM: DeepSeek's latent attention in a small dense model; embeddings tied."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, pre_norm
from llmcalc.model.families.deepseek_v2 import attention
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c), dense(c, bias=c.flag("mlp_bias")))
