"""A model folder or a weight file: the configuration beside it, and the header, held together."""

from __future__ import annotations

import os

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model.inventory import Inventory
from llmcalc.model.readers import safetensors
from llmcalc.model.readers.config import read_path
from llmcalc.model.readers.stored import adopt, from_header


def read_weights(path: str, catalog: Catalog, assume: str | None = None) -> Inventory:
    """Read a ``*.safetensors`` file, an index, or a folder.

    Where a ``config.json`` lies beside the weights it describes the model, and the header gives the
    dtypes and what is stored besides; where there is none, the tensors are known, the caches are not.
    """
    folder = path if os.path.isdir(path) else os.path.dirname(path) or "."
    config = os.path.join(folder, "config.json")
    files = safetensors.files_in(path) if os.path.isdir(path) else (path,)
    if not os.path.exists(config):
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
        return inventory
    try:
        stored = safetensors.read_files(files)
    except ConfigError as error:
        if not os.path.isdir(path):
            raise
        inventory.warnings.append(f"The weights beside it are not read: {error.problem}")
        return inventory
    adopt(inventory, stored, os.path.basename(files[0]))
    inventory.source = "safetensors"
    inventory.origin = f"{config} and {len(files)} file{'s' if len(files) != 1 else ''} of weights"
    return inventory
