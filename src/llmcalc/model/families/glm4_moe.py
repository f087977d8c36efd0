"""GLM 4.5 to 4.7: biases on query, key and value; q/k norms in the large one.

Dense first layers, then experts with a shared one.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families.deepseek_v2 import feed_forward
from llmcalc.model.families.deepseek_v3 import prediction_module
from llmcalc.model.layers import Block

GGUF_NAMES = {"ffn_norm": "post_attention_norm"}


def block(c: Config, layer: int) -> Block:
    qk_norm = "head" if c.flag("use_qk_norm") else ""
    attention = grouped(c, bias=c.flag("attention_bias"), qk_norm=qk_norm)
    return pre_norm(c, attention, feed_forward(c, layer, correction=True))


def mtp(c: Config) -> tuple[int, Block]:
    """How many prediction modules the checkpoint holds, and what one of them is."""
    module = prediction_module(c, block(c, c.num_hidden_layers), tables=True)
    return c.number("num_nextn_predict_layers", stated_only=True), module
