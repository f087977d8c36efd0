"""Phi 3, 3.5 and 4: query, key and value in one matrix, gate and up in one; a window in some sizes."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, grouped(c, fused=True, window=c.window()), dense(c, fused=True))
