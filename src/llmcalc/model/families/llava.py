"""LLaVA 1.5 and Pixtral: a decoder, a CLIP, SigLIP or Pixtral tower, and a projector of two matrices.

The original release spreads the decoder's keys over the top and only names its tower.
"""

from types import ModuleType

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import llama, mistral, qwen2
from llmcalc.model.families._towers import clip_tower, named, pixtral_tower, siglip_tower
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block
from llmcalc.model.layers.encoders import linear

DECODERS: dict[str, ModuleType] = {"llama": llama, "mistral": mistral, "qwen2": qwen2}
NAMES = {"project": "linear_1", "project_out": "linear_2"}
FLAT_NAMES = {"project": "mm_projector.0", "project_out": "mm_projector.2"}


def tower(c: Config, catalog: Catalog) -> tuple[list[Group], int]:
    """The vision tower and its width."""
    stated = c.raw.get("vision_config")
    kind = stated.get("model_type", "clip_vision_model") if isinstance(stated, dict) else "clip_vision_model"
    v = families.part(c, "vision_config", str(kind), catalog)
    if kind == "pixtral":
        return pixtral_tower(v, "vision_tower."), v.hidden_size
    if kind == "siglip_vision_model":
        pooled = v.flag("vision_use_head", True)
        return siglip_tower(v, "vision_tower.vision_model.", pooled=pooled), v.hidden_size
    if kind != "clip_vision_model":
        raise ConfigError(
            f"{v.label}: model_type {str(kind)[:60]!r} is no known vision tower.",
            "Known are clip_vision_model, siglip_vision_model and pixtral.",
        )
    v.read |= {"vocab_size"}
    return clip_tower(v, "vision_tower.vision_model."), v.hidden_size


def describe(c: Config, catalog: Catalog) -> list[Group]:
    if not isinstance(c.raw.get("text_config"), dict):
        return flat(c)
    kind = str(c.raw["text_config"].get("model_type", "llama"))
    if kind not in DECODERS:
        raise ConfigError(
            f"{c.label}: a text model of type {kind[:60]!r} inside llava is unknown.",
            f"Known are {', '.join(DECODERS)}.",
        )
    text = families.part(c, "text_config", kind, catalog, main=True)
    if not c.flag("tie_word_embeddings"):
        c.defaults["tie_word_embeddings"] = text.flag("tie_word_embeddings")
    c.read |= {"vocab_size"}
    vision, width = tower(c, catalog)
    seen = c.lookup("vision_feature_layer")
    layers = len(seen) if isinstance(seen, list) else 1
    bias, out = c.flag("multimodal_projector_bias", True), text.hidden_size
    ending = linear("project", out, width * layers, bias=bias) + linear("project_out", out, out, bias=bias)
    return [
        *families.decoder(DECODERS[kind], text, c, "language_model."),
        *vision,
        families.outside("projector", "embedding", ending, "multi_modal_projector.", NAMES),
    ]


def flat(c: Config) -> list[Group]:
    """The original release: its tower is another checkpoint, loaded beside this one."""
    name, kind = str(c.lookup("mm_vision_tower")), str(c.lookup("mm_projector_type"))
    vision = named(c, name)
    width, out = c.size("mm_hidden_size", vision.hidden_size), c.hidden_size
    made: Block = linear("project", out, width, bias=True)
    if kind == "mlp2x_gelu":
        made += linear("project_out", out, out, bias=True)
    elif kind != "linear":
        raise ConfigError(
            f"{c.label}: mm_projector_type {kind[:60]!r} is unknown.", "Use mlp2x_gelu or linear."
        )
    at = "model.vision_tower.vision_tower.vision_model."
    grid = siglip_tower(vision, at, pooled=False) if "siglip" in name else clip_tower(vision, at)
    return [
        *families.decoder(llama, c),
        *grid,
        families.outside("projector", "embedding", made, "model.", FLAT_NAMES),
    ]
