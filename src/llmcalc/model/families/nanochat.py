"""nanochat: norms without weights, an MLP of two matrices."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped
from llmcalc.model.families.olmo import head
from llmcalc.model.layers import Block, norm

__all__ = ["NAMES", "block", "head"]

NAMES = {"up": "mlp.fc1", "down": "mlp.fc2"}


def block(c: Config, layer: int) -> Block:
    bias, width = c.flag("attention_bias"), c.hidden_size
    return (
        norm("attn_norm", width, weight=False)
        + grouped(c, bias=bias, out_bias=bias)
        + norm("ffn_norm", width, weight=False)
        + dense(c, gated=False)
    )
