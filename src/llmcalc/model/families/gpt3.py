"""GPT-3 by its published shapes: the matrices of Brown et al. 2020, Table 2.1.

Weights were never released: biases, norms and the 2,048 learned positions are not stated and not
counted, and the unembedding is counted beside the embedding, as the published walk-throughs do.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, multi_head
from llmcalc.model.layers import Block


def block(c: Config, layer: int) -> Block:
    return multi_head(c) + dense(c, gated=False)


def head(c: Config) -> Block:
    return unembed(c)
