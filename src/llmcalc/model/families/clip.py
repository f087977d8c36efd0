"""CLIP: a text and an image encoder, each projected to the same width."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import clip_text_model
from llmcalc.model.families._towers import clip_tower
from llmcalc.model.inventory import Group
from llmcalc.model.layers.encoders import linear, table

NAMES = {"image": "visual_projection", "text": "text_projection", "scale": "logit_scale"}


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "clip_text_model", catalog, main=True)
    vision = families.part(c, "vision_config", "clip_vision_model", catalog)
    shared = c.size("projection_dim")
    ending = (
        linear("image", shared, vision.hidden_size)
        + linear("text", shared, text.hidden_size)
        + table("scale", part="")
    )
    return [
        *families.decoder(clip_text_model, text),
        *clip_tower(vision, "vision_model."),
        families.outside("projector", "embedding", ending, "", NAMES),
    ]
