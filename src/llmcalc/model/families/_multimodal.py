"""What multimodal families share: a text model under another name, and how towers hang together."""

from __future__ import annotations

from types import ModuleType

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.inventory import Group

USUAL = {"embedding": "model.embed_tokens", "final_norm": "model.norm"}


def text(family: ModuleType, c: Config, outer: Config, at: str = "model.language_model.") -> list[Group]:
    """The decoder of `family`, under `at` instead of ``model.``; the head stays at the root."""
    moved = ModuleType(family.__name__)
    names = {**USUAL, **getattr(family, "NAMES", {})}
    place = getattr(family, "PREFIX", "model.layers.{layer}")
    moved.__dict__.update(
        {key: value for key, value in vars(family).items() if not key.startswith("__")},
        NAMES={role: under(name, at) for role, name in names.items()},
        PREFIX=under(place, at),
    )
    return families.decoder(moved, c, outer)


def under(name: str, at: str) -> str:
    return at + name.removeprefix("model.") if name.startswith("model.") else name


def nested(c: Config, key: str, model_type: str, catalog: Catalog) -> Config:
    """The decoder's configuration: under `key`, or spread over the top as older files have it."""
    if isinstance(c.raw.get(key), dict):
        return families.part(c, key, model_type, catalog, main=True)
    defaults = (catalog.lookup("class_defaults", model_type) or {}).get("defaults") or {}
    for name, value in defaults.items():
        c.defaults.setdefault(name, value)
    return c
