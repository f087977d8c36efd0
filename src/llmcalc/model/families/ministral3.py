"""Ministral 3: Mistral's layers; with a nested text model the multimodal release."""

import sys

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import mistral3
from llmcalc.model.families.mistral import block
from llmcalc.model.inventory import Group

__all__ = ["block", "describe"]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    if isinstance(c.raw.get("text_config"), dict):
        return mistral3.describe(c, catalog)
    return families.decoder(sys.modules[__name__], c)
