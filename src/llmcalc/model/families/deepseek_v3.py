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


def mtp(c: Config) -> tuple[int, Block]:
    """How many prediction modules the checkpoint holds, and what one of them is."""
    module = (
        norm("embedding_norm", c.hidden_size)
        + norm("hidden_norm", c.hidden_size)
        + projection("projection", c.hidden_size, 2 * c.hidden_size)
        + block(c, c.num_hidden_layers)
        + norm("final_norm", c.hidden_size)
        + embedding(c.vocab_size, c.hidden_size)
        + unembed(c)
    )
    return c.number("num_nextn_predict_layers", stated_only=True), module
