"""Fuyu: Persimmon's decoder, which reads image patches through one matrix: no tower."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import persimmon
from llmcalc.model.families._multimodal import nested
from llmcalc.model.inventory import Group
from llmcalc.model.layers.encoders import linear


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = nested(c, "text_config", "persimmon", catalog)
    c.read |= {"image_size"}
    patches = linear("patch", text.hidden_size, c.patch_size**2 * c.num_channels, bias=True)
    return [
        *families.decoder(persimmon, text, c, "language_model."),
        families.outside("projector", "embedding", patches, "", {"patch": "vision_embed_tokens"}),
    ]
