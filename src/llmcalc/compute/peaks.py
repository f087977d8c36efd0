"""What a GPU can do at most: its dense peak by precision, its bandwidth, its power."""

from __future__ import annotations

from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import InputError

PRECISIONS = ("bf16", "fp16", "fp8", "fp4", "int8", "fp32", "tf32")

STANDS_FOR = {"bf16": ("bf16", "fp16"), "fp16": ("fp16", "bf16"), "tf32": ("tf32",), "fp8": ("fp8",)}
"""Where one is not in the catalog: bf16 and fp16 run alike on every accelerator that has both."""


class Accelerator:
    """One kind of GPU, how many, and what each can do.

    Attributes
    ----------
    name : str
        Of the catalog.
    count : int or None
        None where no number was given. [-]
    peak, bandwidth, power : float or None
        Dense peak at a precision, of memory, and of the whole board. [FLOP/s], [B/s], [W]
    memory : int
        What its driver reports. [B]
    entry : dict
        Of the catalog.
    """

    __slots__ = ("bandwidth", "count", "entry", "memory", "name", "peak", "power")

    def __init__(self, entry: dict[str, Any], count: int | None, memory: int, precision: str) -> None:
        self.entry, self.count, self.memory = entry, count, memory
        self.name = str(entry["name"])
        self.peak = peak_of(entry, precision)
        speed = entry.get("bandwidth_gb_s")
        self.bandwidth = None if speed is None else float(speed) * 1e9
        self.power = entry.get("tdp_w")

    @property
    def gpus(self) -> int:
        """How many there are; one where no number was given. [-]"""
        return self.count or 1

    @property
    def shown(self) -> str:
        """Such as ``8 x H100 SXM``."""
        return f"{self.count:,} x {self.name}" if self.count else self.name


def peak_of(entry: dict[str, Any], precision: str) -> float | None:
    """Dense peak of a catalog entry at a precision; None where it is not known. [FLOP/s]"""
    rates = entry.get("tflops_dense") or {}
    for word in STANDS_FOR.get(precision, (precision,)):
        if rates.get(word):
            return float(rates[word]) * 1e12
    return None


def accelerators(text: Any, book: Catalog, precision: str) -> list[Accelerator]:
    """GPUs as named: ``8xh100``, several with commas.

    Raises
    ------
    LlmcalcError
        For a name that the catalog lacks, or a bare size, which tells no speed.
    """
    from llmcalc.hardware import parse_gpus

    found = []
    for device in parse_gpus(text, book):
        entry = book.lookup("gpus", device.name.partition(":")[0])
        if entry is None:
            what = (
                "a part of a GPU has no speed here"
                if " MIG " in device.name or ":" in device.name
                else "a size tells no speed"
            )
            raise InputError(f"--gpu {device.name}: {what}.", "Name the GPU, such as h100 or 8xa100-80gb.")
        found.append(Accelerator(entry, device.count, device.memory_bytes, precision))
    return found
