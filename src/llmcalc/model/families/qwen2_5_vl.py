"""Qwen2.5-VL: Qwen2's text model and a vision tower of RMSNorms, gated MLPs and windows."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import qwen2
from llmcalc.model.families._multimodal import nested
from llmcalc.model.families._qwen_vision import old_tower
from llmcalc.model.inventory import Group


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = nested(c, "text_config", "qwen2_5_vl_text", catalog)
    vision = families.part(c, "vision_config", "qwen2_5_vl_vision", catalog)
    out = vision.size("out_hidden_size")
    tower = old_tower(vision, vision.hidden_size, vision.intermediate_size, out, gated=True)
    return [*families.decoder(qwen2, text, c), *tower]
