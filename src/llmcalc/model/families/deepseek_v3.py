"""DeepSeek V3 and R1, Kimi K2: latent attention, dense first layers, then experts with shared ones.

The multi-token prediction module is stored, not loaded: tag ``mtp``.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families.deepseek_v2 import attention, feed_forward
from llmcalc.model.layers import Block, norm


def block(c: Config, layer: int) -> Block:
    return (
        norm("attn_norm", c.hidden_size)
        + attention(c)
        + norm("ffn_norm", c.hidden_size)
        + feed_forward(c, layer, correction=True)
    )
