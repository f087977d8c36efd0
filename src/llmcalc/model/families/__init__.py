"""Families: one small file for each `model_type`, named after it.

A family module describes a model with the builders of `llmcalc.model.layers`:

``block(c, layer)``
    The block of one layer; `c` is the configuration. Required.
``embed(c)``, ``head(c)``
    What stands before and after the layers. A token embedding, and a norm with the unembedding,
    unless given.
``describe(c, catalog)``
    All groups, for models that are more than one decoder; the nested configuration of the decoder is
    read by ``part(..., main=True)``.
``streams(c)``
    Tokens of other streams that the model fixes: ``{"encoder": 1500}``.
``mtp(c)``
    How many multi-token prediction modules the checkpoint holds, and the block of one.
``split(c)``
    What tensor parallelism must divide; the attention heads unless given.
``NAMES``, ``GGUF_NAMES``, ``PREFIX``
    Hugging Face and GGUF names of the roles where they differ from the usual ones, and of a layer.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, did_you_mean
from llmcalc.model.configuration import Config
from llmcalc.model.dialects import PREDICTION
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, lower, norm, projection
from llmcalc.model.layers import head as unembedding


def known() -> list[str]:
    """The model types that have a family."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(model_type: str, label: str, assumed: bool = False) -> ModuleType:
    """Import the family of a model type.

    Raises
    ------
    ConfigError
        If there is none, with the nearest and ``--assume``.
    """
    name = model_type.replace("-", "_").replace(".", "_").lower()
    if name.isidentifier() and not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    near = did_you_mean(name[:60], known())
    nearest = f" The nearest is {near[0]}." if near else ""
    if assumed:
        raise ConfigError(
            f"--assume {model_type[:60]!r} is no known family.{nearest}", f"Use one of {', '.join(known())}."
        )
    raise ConfigError(
        f"{label}: model_type {model_type[:60]!r} is unknown.{nearest}",
        f"If it is built like a known family, say so: --assume {near[0] if near else 'llama'}.",
    )


def describe(family: ModuleType, c: Config, catalog: Catalog) -> list[Group]:
    """All groups of a model."""
    if hasattr(family, "describe"):
        groups: list[Group] = family.describe(c, catalog)
        return groups
    return decoder(family, c) + prediction(family, c)


def prediction(family: ModuleType, c: Config) -> list[Group]:
    """Multi-token prediction modules: stored, not loaded unless asked."""
    if not hasattr(family, "mtp"):
        return []
    count, block = family.mtp(c)
    made = lower(block)
    for tensor in made.tensors:
        tensor.tag = "mtp"
    if not count:
        return []
    indices = tuple(range(c.num_hidden_layers, c.num_hidden_layers + count))
    names = {**names_of(family), **{role: name for role, (name, _) in PREDICTION.items()}}
    return [Group("mtp", "layer", indices, made.tensors, (), made.ops, "model.layers.{layer}.", names)]


def part(c: Config, key: str, model_type: str, catalog: Catalog, main: bool = False) -> Config:
    """A nested configuration with the defaults of its class; `main` where it is the decoder's."""
    entry = catalog.lookup("class_defaults", model_type) or {}
    return c.part(key, entry.get("defaults"), entry.get("renames"), main)


def decoder(family: ModuleType, c: Config, outer: Config | None = None, root: str = "") -> list[Group]:
    """A decoder: embedding, grouped layers, norm and head.

    `outer` is the configuration that decides the head, where `c` is a nested part of it; `root`
    stands before all its Hugging Face names.
    """
    c.check(
        "hidden_size", "num_hidden_layers", "vocab_size", *getattr(family, "CHECK", ("num_attention_heads",))
    )
    embed: Block = family.embed(c) if hasattr(family, "embed") else embedding(c.vocab_size, c.hidden_size)
    head: Block = (
        family.head(c) if hasattr(family, "head") else norm("final_norm", c.hidden_size) + unembed(c, outer)
    )
    names = names_of(family)
    prefix = f"{root}{getattr(family, 'PREFIX', 'model.layers.{layer}')}."
    made = [
        outside("text", "embedding", embed, root, names),
        *layers(family.block, c, c.num_hidden_layers, "text", prefix, names),
        outside("text", "head", head, root, names),
    ]
    if any(tensor.role.startswith("expert_") for group in made for tensor in group.tensors):
        c.read.add("intermediate_size")  # stated by mixtures whether or not a dense layer uses it
    return made


def names_of(family: ModuleType) -> dict[str, str]:
    """The names that differ from the usual ones, those of GGUF marked as such."""
    gguf = {f"gguf:{role}": name for role, name in getattr(family, "GGUF_NAMES", {}).items()}
    return {**getattr(family, "NAMES", {}), **gguf}


def outside(
    component: str, place: str, block: Block, prefix: str = "", names: Mapping[str, str] | None = None
) -> Group:
    """A group outside the layers."""
    made = lower(block)
    return Group(component, place, (), made.tensors, made.caches, made.ops, prefix, names)


def layers(
    block: Any, c: Config, count: int, component: str, prefix: str, names: Mapping[str, str] | None = None
) -> list[Group]:
    """Layers grouped by equal blocks, each group with its indices."""
    kinds: dict[Block, list[int]] = {}
    for layer in range(count):
        kinds.setdefault(block(c, layer), []).append(layer)
    groups = []
    for kind, indices in kinds.items():
        made = lower(kind)
        groups.append(
            Group(component, "layer", tuple(indices), made.tensors, made.caches, made.ops, prefix, names)
        )
    return groups


def unembed(c: Config, outer: Config | None = None, *, bias: bool = False, width: int | None = None) -> Block:
    """The head that the architecture names: a language model's, a classifier's, or none."""
    top = outer or c
    width = width or c.hidden_size
    architecture = top.architecture
    if architecture.endswith(("ForSequenceClassification", "ForTokenClassification")):
        return projection(
            "classifier", top.labels, width, architecture.endswith("TokenClassification"), "labels"
        )
    if architecture.endswith("Model") and not architecture.endswith("LMHeadModel"):
        return ()
    return unembedding(c.vocab_size, width, tied=top.flag("tie_word_embeddings"), bias=bias)


def split_units(family: ModuleType, c: Config) -> dict[str, int]:
    """What tensor parallelism must divide, by name."""
    if hasattr(family, "split"):
        units: dict[str, int] = family.split(c)
        return units
    return {"attention heads": c.num_attention_heads}
