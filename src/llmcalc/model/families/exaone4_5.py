"""EXAONE 4.5, multimodal: the text model and Qwen2.5-VL's tower with grouped-query attention."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import exaone4_5_text
from llmcalc.model.families._multimodal import text as text_model
from llmcalc.model.families._qwen_vision import ROOT, old_tower
from llmcalc.model.inventory import Group


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "exaone4", catalog, main=True)
    vision = families.part(c, "vision_config", "exaone4_5_vision", catalog)
    c.read |= {"vocab_size"}
    out, heads = vision.size("out_hidden_size"), vision.size("num_key_value_heads")
    width, ffn = vision.hidden_size, vision.intermediate_size
    return [
        *text_model(exaone4_5_text, text, c),
        *old_tower(vision, width, ffn, out, gated=True, kv_heads=heads, root=ROOT),
        *families.prediction(exaone4_5_text, text),
    ]
