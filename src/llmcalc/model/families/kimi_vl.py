"""Kimi-VL: DeepSeek V3's text model at a smaller width, a MoonViT tower and a patch merger."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import deepseek_v3, kimi_k25
from llmcalc.model.inventory import Group

PROJECTOR = "multi_modal_projector."
NAMES = {**kimi_k25.NAMES, "merge": "linear_1", "merge_out": "linear_2"}
RENAMES = {"pos_emb_height": "init_pos_emb_height", "pos_emb_width": "init_pos_emb_width"}


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "deepseek_v3", catalog, main=True)
    v = c.part("vision_config", {}, RENAMES)
    return [
        *families.decoder(deepseek_v3, text, c, "language_model."),
        *families.prediction(deepseek_v3, text),
        *kimi_k25.towers(v, text, PROJECTOR, NAMES),
    ]
