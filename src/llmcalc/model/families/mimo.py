"""MiMo 7B: Qwen2's layers with a head width of its own, and a prediction module that is not loaded."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import qwen2
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    c.read |= {"num_nextn_predict_layers", "attention_bias"}
    return qwen2.block(c, layer)
