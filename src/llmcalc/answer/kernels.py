"""Which cards a format has kernels for, by what its catalog entry says it runs on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmcalc.catalog import Catalog

CUDA = re.compile(r"CUDA(?: (\d+\.\d+) (?:and up|to (\d+\.\d+)))?(?: \((\d+\.\d+) weights only\))?")
WORDS = {"AMD": ("ROCm", "Vulkan"), "Apple": ("Apple", "Metal"), "Intel": ("XPU", "SYCL", "Vulkan"),
         "Google": ("TPU",)}  # fmt: skip
"""What each vendor's cards are called by in the catalog of schemes."""


def runs_on(hardware: str, card: dict[str, Any]) -> bool:
    """Whether a format runs on a card; true where either says nothing of it.

    Parameters
    ----------
    hardware : str
        As in the catalog of schemes: ``CUDA 7.0 to 8.9``, ``CUDA 7.5 and up, ROCm, CPU``.
    card : dict
        An entry of the catalog of GPUs.

    Examples
    --------
    >>> ada, blackwell = ({"vendor": "NVIDIA", "compute_capability": c} for c in ("8.9", "12.0"))
    >>> runs_on("CUDA 7.0 to 8.9", ada), runs_on("CUDA 7.0 to 8.9", blackwell)
    (True, False)
    """
    vendor, name = card.get("vendor"), str(card.get("name", ""))
    if not re.search(r"CUDA|ROCm|Vulkan|Apple|Metal|CPU|XPU|SYCL|TPU", hardware):
        return True
    if vendor == "NVIDIA":
        match = CUDA.search(hardware)
        if match is None:
            return False
        low, high, weights = (_pair(match.group(place)) for place in (1, 2, 3))
        own = _pair(str(card.get("compute_capability") or ""))
        least = min(low, weights) if low and weights else low
        return not own or ((not least or own >= least) and (not high or own <= high))
    if vendor == "AMD" and (series := re.search(r"ROCm (MI\d+)( and up)?", hardware)):
        number, own_number = int(series.group(1)[2:]), re.search(r"MI(\d+)", name)
        return own_number is not None and int(own_number.group(1)) >= number
    words = WORDS.get(str(vendor))
    return words is None or any(word in hardware for word in words)


def _pair(text: str | None) -> tuple[int, int] | None:
    """A compute capability to compare by."""
    match = re.fullmatch(r"(\d+)\.(\d+)", text or "")
    return (int(match.group(1)), int(match.group(2))) if match else None


def runner(scheme: Any, book: Catalog) -> Callable[[str], bool]:
    """A test whether a scheme runs on the card of a name."""
    hardware = "" if scheme is None else str(scheme.entry.get("hardware", ""))

    def runs(name: str) -> bool:
        card = book.lookup("gpus", name.partition(" MIG ")[0]) if hardware else None
        return card is None or runs_on(hardware, card)

    return runs


def told(scheme: Any, name: str) -> str:
    """That a scheme has no kernels for a card."""
    return f"{scheme.name} has no kernels for {name}: it runs on {scheme.entry.get('hardware')}."
