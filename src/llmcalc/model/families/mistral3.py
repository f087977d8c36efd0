"""Mistral Small 3.1 and later, Ministral 3: a Mistral text model, a Pixtral tower and a patch merger."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import mistral
from llmcalc.model.families._towers import pixtral_tower
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import linear

PROJECTOR_NAMES = {
    "project_norm": "norm",
    "merge": "patch_merger.merging_layer",
    "project": "linear_1",
    "project_out": "linear_2",
}


def projector(c: Config, vision: int, text: int) -> Block:
    """Joins neighbouring patches, then two matrices to the text model's width."""
    joined, bias = c.size("spatial_merge_size") ** 2, c.flag("multimodal_projector_bias")
    seen = c.lookup("vision_feature_layer")
    layers = len(seen) if isinstance(seen, list) else 1
    return (
        norm("project_norm", vision)
        + linear("merge", vision, vision * joined)
        + linear("project", text, vision * layers, bias=bias)
        + linear("project_out", text, text, bias=bias)
    )


def describe(c: Config, catalog: Catalog) -> list[Group]:
    # Also reached from Ministral 3's files, whose model_type is that of the text model.
    defaults = (catalog.lookup("class_defaults", "mistral3") or {}).get("defaults") or {}
    c.defaults = dict(defaults)
    nested = c.raw.get("text_config")
    latent = isinstance(nested, dict) and nested.get("model_type") == "mistral4"
    text = families.part(c, "text_config", "mistral4" if latent else "mistral", catalog, main=True)
    vision = families.part(c, "vision_config", "pixtral", catalog)
    if c.lookup("tie_word_embeddings") in (MISSING, None):
        # Files older than the key left it to the text model's class.
        c.defaults["tie_word_embeddings"] = text.flag("tie_word_embeddings")
    ending = projector(c, vision.hidden_size, text.hidden_size)
    return [
        *families.decoder(
            families.load("mistral4", c.label) if latent else mistral, text, c, "language_model."
        ),
        *pixtral_tower(vision, "vision_tower."),
        families.outside("projector", "embedding", ending, "multi_modal_projector.", PROJECTOR_NAMES),
    ]
