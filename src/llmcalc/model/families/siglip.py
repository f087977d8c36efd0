"""SigLIP: a text and an image encoder that score pairs one by one; the image is pooled by attention."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import siglip_text_model
from llmcalc.model.families._towers import siglip_tower
from llmcalc.model.inventory import Group
from llmcalc.model.layers.encoders import table

NAMES = {"scale": "logit_scale", "shift": "logit_bias"}


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "siglip_text_model", catalog, main=True)
    vision = families.part(c, "vision_config", "siglip_vision_model", catalog)
    ending = table("scale", 1, part="") + table("shift", 1, part="")
    pooled = vision.flag("vision_use_head", True)
    return [
        *families.decoder(siglip_text_model, text),
        *siglip_tower(vision, "vision_model.", pooled=pooled),
        families.outside("projector", "embedding", ending, "", NAMES),
    ]
