"""Readers: each turns one kind of input into an `Inventory`; `read` finds the right one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, InputError, UnknownNameError
from llmcalc.model.inventory import Inventory
from llmcalc.model.readers.count import read_count
from llmcalc.units import parse_decimal

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read(source: Any, catalog: Catalog, assume: str | None = None) -> Inventory:
    """Read whatever names a model: see `llmcalc.api.model`."""
    if isinstance(source, Inventory):
        return source
    if isinstance(source, Mapping):
        from llmcalc.model.readers.config import read_dict

        return read_dict(source, catalog, assume=assume)
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str):
        return read_count(source, "MODEL")
    return _named(source, catalog, assume)


def read_only(model: Any, params: Any, config: Any, assume: str | None, catalog: Catalog) -> Inventory:
    """Read the one model that a call names, by any of its three keywords."""
    stated = {"MODEL": model, "--params": params, "--config": config}
    named = [name for name, value in stated.items() if value is not None]
    if len(named) != 1:
        told = f"{' and '.join(named)} are given together" if named else "No model is given"
        raise InputError(f"{told}.", "Name one: llama-3.1-8b, --params 13b, or --config config.json.")
    if params is not None:
        found = read_count(params)
    elif isinstance(config, (str, os.PathLike)):
        from llmcalc.model.readers.config import read_path

        found = read_path(os.fspath(config), catalog, assume)
    else:
        found = read(config if config is not None else model, catalog, assume)
    if found.is_opaque and assume is not None:
        raise InputError("--assume is for configurations; a bare count has no family.", "Leave --assume out.")
    return found


def _named(source: str, catalog: Catalog, assume: str | None) -> Inventory:
    """Read a path, a name or a count."""
    text = source.strip()
    if not text:
        raise InputError(
            "The model's name is empty.", "Name one, such as llama-3.1-8b, a config.json or 13b."
        )
    if "\0" not in text and (text == "-" or os.path.exists(text)):
        return _existing(text, catalog, assume)
    entry = catalog.lookup("models", text)
    if entry is not None:
        from llmcalc.model.readers.catalog import read_entry

        return read_entry(entry, catalog, assume=assume)
    if _is_count(text):
        return read_count(text, "MODEL")
    from llmcalc.model.readers import stores

    kept = stores.find(text)
    if kept is not None:
        return _existing(kept, catalog, assume)
    entry = catalog.lookup("models", text.replace(":", "-")) if ":" in text else None
    if entry is not None:
        from llmcalc.model.readers.catalog import read_entry

        inventory = read_entry(entry, catalog, assume=assume)
        inventory.warnings.append(
            f"{text} is not in Ollama's store; the catalog's {entry['name']} is taken, at its own dtype."
        )
        return inventory
    looks_like_path = text.endswith(".json") or text.startswith((".", "/", "~", "\\")) or text.count("/") > 1
    if looks_like_path:
        raise ConfigError(f"{text[:200]} does not exist.", "Check the path of the config.json.")
    near = catalog.nearest("models", text)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UnknownNameError(
        f"There is no model {text[:80]!r} in the catalog, no such file, and it is no parameter count.",
        f"{hint}llmcalc models --search WORD lists models; a config.json or a count such as 13b does too.",
    )


def _existing(path: str, catalog: Catalog, assume: str | None) -> Inventory:
    """Read an existing path: a configuration, a weight file's header, or a folder with either."""
    folded = path.lower()
    if folded.endswith(PICKLES):
        raise ConfigError(
            f"{path} is a pickle, which runs code when it is opened, so it is not.",
            "Give the config.json beside it, or convert it to safetensors.",
        )
    if folded.endswith(".gguf") or (not folded.endswith(".json") and _starts_with(path, b"GGUF")):
        from llmcalc.model.readers.weights import read_gguf_beside

        return read_gguf_beside(path, catalog)
    if folded.endswith((".safetensors", ".safetensors.index.json")) or os.path.isdir(path):
        from llmcalc.model.readers.weights import read_weights

        return read_weights(path, catalog, assume)
    from llmcalc.model.readers.config import read_path

    return read_path(path, catalog, assume)


def _starts_with(path: str, magic: bytes) -> bool:
    """Whether a regular file starts with some bytes, whatever its name (Ollama's blobs have none)."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError:
        return False


def _is_count(text: str) -> bool:
    return parse_decimal(text.lower().rstrip("kmbgtq")) is not None
