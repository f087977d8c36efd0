"""Qwen3-VL MoE: the text model with experts, and a vision tower whose inner layers are merged in too."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import qwen3_vl_moe_text
from llmcalc.model.families._multimodal import text as text_model
from llmcalc.model.families._qwen_vision import tower
from llmcalc.model.inventory import Group


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "qwen3_vl_moe_text", catalog, main=True)
    vision = families.part(c, "vision_config", "qwen3_vl_moe_vision", catalog)
    return [*text_model(qwen3_vl_moe_text, text, c), *tower(vision)]
