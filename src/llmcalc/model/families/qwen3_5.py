"""Qwen3.5 to 3.8, multimodal: a vision tower with a merger, and the text model."""

import sys

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import qwen3_5_text
from llmcalc.model.families._qwen_vision import TEXT_NAMES, TEXT_PREFIX, tower
from llmcalc.model.families.qwen3_5_text import GGUF_NAMES, block, split
from llmcalc.model.inventory import Group

__all__ = ["GGUF_NAMES", "NAMES", "PREFIX", "block", "describe", "split"]

NAMES = {**qwen3_5_text.NAMES, **TEXT_NAMES}
PREFIX = TEXT_PREFIX


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "qwen3_5_text", catalog, main=True)
    vision = families.part(c, "vision_config", "qwen3_5_vision", catalog)
    return [
        *families.decoder(sys.modules[__name__], text, c),
        *tower(vision),
        *qwen3_5_text.prediction(text, qwen3_5_text.feed_forward, NAMES),
    ]
