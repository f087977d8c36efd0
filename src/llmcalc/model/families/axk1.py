"""A.X K1: DeepSeek V3's layers, with a third norm after the experts."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import pre_norm, sparse
from llmcalc.model.families.deepseek_v2 import attention, feed_forward
from llmcalc.model.layers import Block, norm

NAMES = {"post_ffn_norm": "post_mlp_layernorm"}


def block(c: Config, layer: int) -> Block:
    # The published checkpoint holds no correction of the router.
    made = pre_norm(c, attention(c), feed_forward(c, layer, dense_first=1))
    return made + norm("post_ffn_norm", c.hidden_size) if sparse(c, layer, 1) else made
