"""Solar Open: grouped-query attention; experts with a shared one in every layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families.deepseek_v2 import feed_forward
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    c.read.add("intermediate_size")
    qk_norm = "head" if c.flag("use_qk_norm") else ""
    attention = grouped(c, bias=c.flag("attention_bias"), qk_norm=qk_norm)
    # The published checkpoint holds no correction of the router.
    return pre_norm(c, attention, feed_forward(c, layer))
