"""Qwen2-VL: Qwen2's text model and a vision tower that merges four patches into a token."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import qwen2
from llmcalc.model.families._multimodal import nested
from llmcalc.model.families._qwen_vision import old_tower
from llmcalc.model.inventory import Group


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = nested(c, "text_config", "qwen2_vl_text", catalog)
    vision = families.part(c, "vision_config", "qwen2_vl_vision", catalog)
    # Here `hidden_size` is the width that the tower puts out, `embed_dim` its own.
    width = vision.size("embed_dim")
    tower = old_tower(vision, width, width * vision.size("mlp_ratio"), vision.hidden_size, gated=False)
    return [*families.decoder(qwen2, text, c), *tower]
