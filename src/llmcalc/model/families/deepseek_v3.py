"""DeepSeek V3 and R1: latent attention, dense first layers, then experts with a shared one.

The checkpoint also holds multi-token prediction modules, each with an embedding and a head of its
own; engines do not load them unless asked, so their tensors have the tag ``mtp``.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import pre_norm
from llmcalc.model.families.deepseek_v2 import attention, feed_forward
from llmcalc.model.layers import Block, embedding, norm, projection


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c), feed_forward(c, layer, correction=True))


def prediction_module(c: Config, layer: Block, tables: bool) -> Block:
    """A layer that predicts one token more, from a state and an embedding; with `tables` its own."""
    width = c.hidden_size
    module = (
        norm("embedding_norm", width)
        + norm("hidden_norm", width)
        + projection("projection", width, 2 * width)
        + layer
        + norm("final_norm", width)
    )
    return module + embedding(c.vocab_size, width) + unembed(c) if tables else module


def mtp(c: Config) -> tuple[int, Block]:
    """How many prediction modules the checkpoint holds, and what one of them is."""
    module = prediction_module(c, block(c, c.num_hidden_layers), tables=True)
    return c.number("num_nextn_predict_layers", stated_only=True), module
