"""Formats (elements and bytes of a block) and the schemes that map tensors to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.errors import InputError
from llmcalc.units import whole_or_fraction

if TYPE_CHECKING:
    from fractions import Fraction

    from llmcalc.catalog import Catalog
    from llmcalc.model.inventory import Inventory


class Format:
    """A number format as a block layout.

    Parameters
    ----------
    name : str
        Canonical name, such as ``bf16``.
    elements, bytes_ : int
        Elements of one block, and bytes that the block takes. [elements], [B]
    head_bytes : int
        Of a cache: scales of one head of one token. [B]
    residual : int
        Of a cache: the newest tokens that stay in 16 bit. [tokens]

    Examples
    --------
    >>> Format("q8_0", 32, 34).bytes_per_element
    Fraction(17, 16)
    """

    __slots__ = ("block_bytes", "elements", "head_bytes", "name", "residual")

    def __init__(self, name: str, elements: int, bytes_: int, head_bytes: int = 0, residual: int = 0) -> None:
        self.name, self.elements, self.block_bytes = name, elements, bytes_
        self.head_bytes, self.residual = head_bytes, residual

    @property
    def bytes_per_element(self) -> int | Fraction:
        """Bytes of one element; a Fraction for block formats. [B]"""
        return whole_or_fraction(self.block_bytes, self.elements)

    @property
    def bits(self) -> int | Fraction:
        """Bits of one element. [bit]"""
        return whole_or_fraction(8 * self.block_bytes, self.elements)


def find_format(name: Any, catalog: Catalog, use: str, what: str) -> Format:
    """Look a format up for one use.

    Parameters
    ----------
    name : str
        Name or alias (``bf16``, ``f16``, ``float16``, ``q8_0`` ...).
    catalog : Catalog
        Where formats are defined.
    use : str
        ``weights``, ``kv``, or ``stored`` for whatever a file may hold.
    what : str
        The option's name, for the error.

    Raises
    ------
    InputError
        If the format is unknown or not meant for that use; lists those that are.
    """
    entry = catalog.lookup("formats", name) if isinstance(name, str) else None
    if entry is None or (use != "stored" and not entry.get(use)):
        fitting = [str(e["name"]) for e in catalog.entries("formats") if e.get(use)]
        near = catalog.nearest("formats", name) if isinstance(name, str) and name else []
        near = [word for word in near if word in fitting]
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"{what} {str(name)[:40]!r} is not known.", f"{hint}Use {', '.join(fitting)}.")
    return Format(
        str(entry["name"]),
        int(entry["elements"]),
        int(entry["bytes"]),
        int(entry.get("head_bytes", 0)),
        int(entry.get("residual", 0)),
    )


def _named_file(inventory: Inventory, stated: dict[str, Any], catalog: Catalog) -> Inventory:
    """A GGUF file under the name of its file type; its tensors have their types already."""
    import copy

    from llmcalc.precision.named import find_scheme

    made = copy.copy(inventory)
    made.quantization = {**stated, "applied": find_scheme(str(stated["file_type"]), catalog)}
    return made


def stored_as_declared(inventory: Inventory, catalog: Catalog) -> Inventory:
    """The inventory stored as its configuration says it is quantized; as it is where that says nothing.

    What is not understood is kept as ``quantization["refused"]``, problem and remedy, to be raised where
    bytes are asked for.
    """
    stated = inventory.quantization
    if stated is None or "applied" in stated or "refused" in stated:
        return inventory
    if stated.get("quant_method") == "gguf" and "file_type" in stated:
        return _named_file(inventory, stated, catalog)
    if inventory.beside is not None:
        from llmcalc.precision.settled import settle

        return settle(inventory, stated, catalog)
    from llmcalc.precision.declared import apply

    return apply(inventory, stated, catalog)
