"""Which of llama.cpp's file types a log's file is: by name, by its tensors, by its size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from llmcalc.errors import LlmcalcError
from llmcalc.model.inventory import Inventory
from llmcalc.precision.gguf import File
from llmcalc.precision.mixtures import DEFAULTS, FLOATS
from llmcalc.units import MIB
from llmcalc.validation.loads import Load

UNSIZED = (("q2_k", "_m"), ("q6_k", "_m"))
"""Types that llama.cpp prints with a size that their names lack."""

RENAMED = {"iq3_s_mix": "iq3_m"}
"""Types that llama.cpp prints under another name than its quantizer takes."""

OTHER = 0.005
"""A file that is larger or smaller than its type by more than this was not made by llama.cpp's rules. [-]"""

GIB = 1024 * MIB


def scheme_of(file_type: str | None) -> str | None:
    """``Q4_K - Medium`` as a scheme's name; None for what is no type of llama.cpp's.

    Examples
    --------
    >>> scheme_of("Q4_K - Medium"), scheme_of("Q2_K - Medium"), scheme_of("IQ4_XS - 4.25 bpw")
    ('q4_k_m', 'q2_k', 'iq4_xs')
    >>> scheme_of("MXFP4 MoE"), scheme_of("all F32"), scheme_of("unknown, may not work")
    ('mxfp4_moe', 'gguf-f32', None)
    """
    if not file_type:
        return None
    head, _, tail = file_type.removesuffix(" (guessed)").partition(" - ")
    name = head.strip().lower().removeprefix("mostly ").removeprefix("all ").replace(" ", "_")
    name = RENAMED.get(name, name)
    size = {"small": "_s", "medium": "_m", "large": "_l"}.get(tail.strip().lower(), "")
    name += "" if (name, size) in UNSIZED else size
    return _as_quant(name) if name in DEFAULTS else None


def _as_quant(name: str) -> str:
    """A file type as ``--quant`` takes it."""
    return f"gguf-{name}" if name in FLOATS else name


def counts_of(inventory: Inventory, file_type: str) -> dict[str, int]:
    """Tensors of each number format in a file of this type, named as llama.cpp prints them. [-]"""
    made = File(file_type).apply(inventory, "bf16")
    found: Counter[str] = Counter()
    for group in made.groups:
        for tensor in group.tensors:
            if tensor.tag in made.loaded:
                kind = {"fp32": "f32", "fp16": "f16"}.get(tensor.dtype or "", tensor.dtype or "")
                found[kind] += len(group.layers[: group.stored]) or 1
    return dict(found)


def printed_counts(load: Load) -> dict[str, int] | None:
    """The same as a log prints it; None where a part of the lines is missing. [-]"""
    found = {kind.lower(): many for kind, many in load.tensor_types.items()}
    return found if found and sum(found.values()) == load.tensors else None


def predicting(inventory: Inventory) -> float:
    """Share of the prediction layers, which a file may hold and which are not loaded. [-]"""
    sizes = {"mtp": 0, "": 0}
    for group in inventory.groups:
        many = sum(tensor.numel for tensor in group.tensors) * (len(group.layers[: group.stored]) or 1)
        sizes["mtp" if group.component == "mtp" else ""] += many
    return sizes["mtp"] / (sum(sizes.values()) or 1)


class FileType:
    """What a log tells of the file's type.

    Attributes
    ----------
    quant : str or None
        As ``--quant`` takes it; None if it is not told.
    is_other : bool
        Whether the file is not what llama.cpp's rules make of that type.
    note : str
        A sentence on how it was found, or why not; may be empty.
    """

    __slots__ = ("is_other", "note", "quant")

    def __init__(self, quant: str | None, note: str = "", is_other: bool = False) -> None:
        self.quant, self.note, self.is_other = quant, note, is_other


def file_type_of(load: Load, inventory: Inventory, quant: Any, predict: Callable[..., Any]) -> FileType:
    """The type of a log's file: as the user says, as the log names it, or by its tensors or size.

    Parameters
    ----------
    load : Load
        The model that the log loads.
    inventory : Inventory
        The model.
    quant : str or None
        What the user says.
    predict : callable
        `llmcalc.vram`.
    """
    if inventory.source == "gguf":
        return FileType(None)  # the file itself was given

    def size_of(name: str) -> int:
        return int(predict(inventory, quant=name)["weights"].amounts[0])

    named = quant or scheme_of(load.file_type)
    if named is not None:
        return _checked(load, inventory, str(named), size_of)
    counts = printed_counts(load)
    if counts is not None:
        alike = _alike(lambda name: counts_of(inventory, name) == counts)
        if alike:
            return FileType(_as_quant(alike[0]), f"By its tensors the file is {alike[0]}.")
    if load.size_bytes and not load.file_type:
        step = 0.01 * (GIB if load.size_bytes >= GIB else MIB)
        size = load.size_bytes
        alike = _alike(lambda name: abs(size_of(_as_quant(name)) - size) <= step)
        if alike:
            return FileType(_as_quant(alike[0]), f"By its size the file is {' or '.join(alike[:3])}.")
    if load.file_type:
        return FileType(None, f"The file's type, {load.file_type[:40]}, is none that llmcalc knows.")
    return FileType(None)


def _alike(is_alike: Callable[[str], bool]) -> list[str]:
    """File types of which something is true; those that a model can't have are left out."""
    found = []
    for name in DEFAULTS:
        try:
            if is_alike(name):
                found.append(name)
        except LlmcalcError:
            continue
    return found


def _checked(load: Load, inventory: Inventory, quant: str, size_of: Callable[[str], int]) -> FileType:
    """A type that was named, held against the size that the log prints."""
    if not load.size_bytes:
        return FileType(quant)
    own = size_of(quant)
    if -OTHER - predicting(inventory) <= own / load.size_bytes - 1 <= OTHER:
        return FileType(quant)
    return FileType(
        quant,
        f"The file has {load.size_bytes / GIB:,.2f} GiB, {quant} of {inventory.name} by llama.cpp's rules "
        f"{own / GIB:,.2f}: it mixes other types, and only the file itself tells its weights (give it as "
        "MODEL).",
        is_other=True,
    )
