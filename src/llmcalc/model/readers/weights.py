"""A model folder or a weight file: the configuration beside it, and the header, held together."""

from __future__ import annotations

import os
import re

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, LlmcalcError
from llmcalc.model.inventory import Inventory
from llmcalc.model.readers import safetensors
from llmcalc.model.readers.config import read_path
from llmcalc.model.readers.gguf_model import read_gguf
from llmcalc.model.readers.stored import adopt, from_header

SPLIT = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")


def read_weights(path: str, catalog: Catalog, assume: str | None = None) -> Inventory:
    """Read a ``*.safetensors`` file, an index, or a folder.

    Where a ``config.json`` lies beside the weights it describes the model, and the header gives the
    dtypes and what is stored besides; where there is none, the tensors are known, the caches are not.
    """
    folder = path if os.path.isdir(path) else os.path.dirname(path) or "."
    config = os.path.join(folder, "config.json")
    files = safetensors.files_in(path) if os.path.isdir(path) else (path,)
    ggufs = ggufs_in(path) if not files and os.path.isdir(path) else []
    if len(ggufs) == 1:
        return read_gguf_beside(ggufs[0], catalog)
    if not os.path.exists(config):
        if ggufs:
            raise ConfigError(f"{path} holds {len(ggufs)} GGUF models.", f"Give one: {_some(ggufs)}.")
        if not files:
            return read_path(path, catalog, assume)  # which tells what the folder lacks
        name = os.path.basename(os.path.abspath(path))
        inventory = from_header(name, safetensors.read_files(files), "safetensors")
        inventory.warnings.append(
            "There is no config.json beside the weights: layers, caches and context are not known."
        )
        return inventory
    inventory = read_path(config, catalog, assume)
    if not files:
        if ggufs:
            inventory.warnings.append(
                f"Weights are priced from config.json; name a file for its own: {_some(ggufs)}."
            )
        return inventory
    try:
        stored = safetensors.read_files(files)
    except ConfigError as error:
        if not os.path.isdir(path):
            raise
        inventory.warnings.append(f"The weights beside it are not read: {error.problem}")
        return inventory
    if inventory.quantization is None:
        adopt(inventory, stored, os.path.basename(files[0]))
    else:
        inventory.beside = os.path.basename(files[0]), stored
    inventory.source = "safetensors"
    inventory.origin = f"{config} and {len(files)} file{'s' if len(files) != 1 else ''} of weights"
    return inventory


def ggufs_in(folder: str) -> list[str]:
    """The GGUF models of a folder: of a split one the first part, of projectors none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    found = [name for name in names if name.endswith(".gguf") and not name.startswith("mmproj")]
    parts = [name for name in found if (match := SPLIT.search(name)) and match.group(1) != "00001"]
    return [os.path.join(folder, name) for name in found if name not in parts]


def read_gguf_beside(path: str, catalog: Catalog) -> Inventory:
    """Read a GGUF file, and hold it against the ``config.json`` beside it if there is one.

    The file says what is there; a configuration that promises other tensors is told as a warning.
    """
    inventory = read_gguf(path, catalog)
    config = os.path.join(os.path.dirname(path) or ".", "config.json")
    if not os.path.isfile(config):
        return inventory
    try:
        promised = read_path(config, catalog)
    except LlmcalcError as error:
        first = (error.parts or (error,))[0]
        inventory.warnings.append(f"The config.json beside it is not compared: {first.problem}")
        return inventory
    if promised.grade != "exact":
        return inventory  # a file of a few keys, as some conversions carry, promises nothing
    wanted, found = (_main_by_role(one) for one in (promised, inventory))
    if sum(wanted.values()) == sum(found.values()):
        inventory.origin = f"{path}, which holds what {config} promises"
        return inventory
    apart = {role: abs(found.get(role, 0) - wanted.get(role, 0)) for role in {**wanted, **found}}
    told = [
        f"{role} {found.get(role, 0):,} against {wanted.get(role, 0):,}"
        for role in sorted(apart, key=lambda role: -apart[role])
        if apart[role]
    ]
    more = f" and {len(told) - 4} more" if len(told) > 4 else ""
    inventory.warnings.append(
        f"The file holds {sum(found.values()):,} elements, the config.json beside it promises "
        f"{sum(wanted.values()):,}: {', '.join(told[:4])}{more}."
    )
    return inventory


def _main_by_role(inventory: Inventory) -> dict[str, int]:
    """Elements of the language model's own tensors; a GGUF keeps towers in a file of their own."""
    counted: dict[str, int] = {}
    for group in inventory.groups:
        if group.component in ("text", "encoder"):
            for tensor in group.tensors:
                if tensor.tag == "main":
                    counted[tensor.role] = counted.get(tensor.role, 0) + group.count * tensor.numel
    return counted


def _some(paths: list[str]) -> str:
    told = ", ".join(os.path.basename(path) for path in paths[:3])
    return told + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
