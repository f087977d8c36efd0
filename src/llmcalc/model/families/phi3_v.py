"""Phi-3 and 3.5 vision: Phi-3's decoder, a CLIP tower, and a projector over 2 x 2 patches."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import phi3
from llmcalc.model.families._towers import clip_tower, named
from llmcalc.model.inventory import Group
from llmcalc.model.layers.encoders import linear, table

ROOT = "model.vision_embed_tokens."
NAMES = {
    "project": "img_projection.0",
    "project_out": "img_projection.2",
    "image_end": "glb_GN",
    "row_end": "sub_GN",
}
JOINED = 4
"""Patches that the projector reads as one, where `use_hd_transform` is set."""


def describe(c: Config, catalog: Catalog) -> list[Group]:
    processor, layer = c.part("img_processor", None), c.part("embd_layer", None)
    processor.read |= {"num_img_tokens"}
    name = processor.lookup("model_name")
    vision = named(c, "clip-vit-large-patch14-336" if name in (MISSING, None) else str(name))
    seen, out = processor.size("image_dim_out", vision.hidden_size), c.hidden_size
    joined = JOINED if layer.flag("use_hd_transform") else 1
    projector = linear("project", out, seen * joined, bias=True) + linear("project_out", out, out, bias=True)
    if layer.flag("with_learnable_separator"):
        wide = seen * joined
        projector += table("image_end", 1, 1, wide, part="") + table("row_end", 1, 1, 1, wide, part="")
    return [
        *families.decoder(phi3, c),
        *clip_tower(vision, f"{ROOT}img_processor.vision_model."),
        families.outside("projector", "embedding", projector, ROOT, NAMES),
    ]
