"""EXAONE 4.5, the text model: EXAONE 4's layers, and a prediction module that is not loaded."""

from llmcalc.model.configuration import Config
from llmcalc.model.families.exaone4 import NAMES, block
from llmcalc.model.layers import Block, norm, projection

__all__ = ["NAMES", "block", "mtp"]


def mtp(c: Config) -> tuple[int, Block]:
    c.read |= {"_num_mtp_layers"}
    width = c.hidden_size
    module = (
        norm("embedding_norm", width)
        + norm("hidden_norm", width)
        + projection("projection", width, 2 * width)
        + block(c, c.num_hidden_layers - 1)
        + norm("final_norm", width)
    )
    return c.number("num_nextn_predict_layers", stated_only=True), module
