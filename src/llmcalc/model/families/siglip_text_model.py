"""SigLIP's text encoder: CLIP's layers and a projection with a bias; no KV cache."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import clip_text_model
from llmcalc.model.families.clip_text_model import PREFIX, block, embed
from llmcalc.model.layers import Block, norm, projection

__all__ = ["NAMES", "PREFIX", "block", "embed", "head"]

NAMES = {**clip_text_model.NAMES, "text_projection": "text_model.head"}


def head(c: Config) -> Block:
    out = c.optional("projection_size") or c.hidden_size
    return norm("final_norm", c.hidden_size, True) + projection("text_projection", out, c.hidden_size, True)
