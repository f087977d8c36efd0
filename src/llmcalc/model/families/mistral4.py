"""Mistral Small 4: latent attention with a low-rank query, experts with a shared one in every layer."""

import sys

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import mistral3
from llmcalc.model.families.deepseek_v2 import block
from llmcalc.model.inventory import Group

__all__ = ["block", "describe"]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    if isinstance(c.raw.get("text_config"), dict):
        return mistral3.describe(c, catalog)
    return families.decoder(sys.modules[__name__], c)
