"""Read a catalog entry: its configuration fields go through the same reader as a file."""

from __future__ import annotations

from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.model.inventory import Inventory
from llmcalc.model.readers.config import read_dict


def read_entry(
    entry: dict[str, Any], catalog: Catalog, check_keys: bool = False, assume: str | None = None
) -> Inventory:
    """Turn an entry of ``models.yaml`` into an inventory.

    Examples
    --------
    >>> catalog = Catalog()
    >>> read_entry(catalog.lookup("models", "gpt-3"), catalog).params
    175181291520
    """
    name = str(entry["name"])
    title = str(entry["hf"]).partition("/")[2] if entry.get("hf") else name
    file = catalog.origin(entry)
    inventory = read_dict(
        entry["config"],
        catalog,
        label=f"{file}, models entry {name}, config" if file else name,
        name=name,
        source="catalog",
        title=title,
        assume=assume,
        trusted=entry.get("proven", "all") == "all",
        check_keys=check_keys or bool(file),
    )
    inventory.origin = f"catalog entry {name} ({', '.join(entry.get('sources', ['own']))})"
    inventory.published = entry.get("stored_params")
    _drop_unstored(inventory)
    inventory.stored_note = str(entry.get("stored_note", ""))
    if entry.get("context"):
        inventory.context = int(entry["context"])
        inventory.unproven.pop("context", None)
    if entry.get("note"):
        inventory.warnings.append(str(entry["note"]))
    return inventory


def _drop_unstored(inventory: Inventory) -> None:
    """Take off prediction modules what the published total shows that the checkpoint lacks.

    No key of a configuration says whether a module shares embedding and head of the model, and some
    checkpoints lack the modules that theirs names.
    """
    for roles in (("embedding", "unembedding"), None):
        gone = {
            id(tensor): group.count * tensor.numel
            for group in inventory.groups
            for tensor in group.tensors
            if tensor.tag == "mtp" and (roles is None or tensor.role in roles)
        }
        if gone and inventory.unexplained_params == -sum(gone.values()):
            for group in inventory.groups:
                group.tensors = tuple(t for t in group.tensors if id(t) not in gone)
            inventory.groups = tuple(group for group in inventory.groups if group.tensors)
            return
