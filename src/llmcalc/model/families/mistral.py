"""Mistral: Llama's layers without biases; 7B v0.1 attends to a window of 4,096 in every layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, grouped(c, window=c.window()), dense(c))
