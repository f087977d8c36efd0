"""Devices: what a process can take of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, LlmcalcError, UnknownNameError, join_remedies
from llmcalc.units import BYTES, GIB, MIB, parse_bytes

CUDA_RESERVE = 600 * MIB
CUDA_RESERVE_SPREAD = 250 * MIB
"""nvidia-smi's total less what CUDA reports: 377 to 768 MiB on ten cards (assumed 600 +-250)."""

MAX_GPUS = 1_000_000

SYSTEM = 2 * GIB
"""What a system keeps of memory that it shares with its GPU, at most an eighth of it (assumed). [B]"""


class Device:
    """One kind of GPU, and how many of them.

    Attributes
    ----------
    name : str
        Catalog name, or the size as given.
    count : int or None
        How many; None where the user named no number. [-]
    memory_bytes : int
        What its driver reports, else the marketed size by the vendor's rule. [B]
    usable_bytes, usable_low, usable_high : int
        What a process can take, and its range. [B]
    basis : str
        Where the usable figure comes from.
    vendor : str
        ``NVIDIA``, ``AMD``, ``Apple`` ...; empty where only a size is known.
    shared_bytes, shared_low : int
        What it and the host hold together at most, where both have one memory, and the same less what the
        system itself keeps; 0 for memory of its own. [B]
    """

    __slots__ = (
        "basis", "count", "memory_bytes", "name", "shared_bytes", "shared_low", "usable_bytes", "usable_high",
        "usable_low", "vendor",
    )  # fmt: skip

    def __init__(
        self, name: str, count: int | None, memory: int, usable: int, low: int, high: int, basis: str,
        vendor: str = "", shared: bool = False,
    ) -> None:  # fmt: skip
        self.vendor = vendor
        self.shared_bytes = memory if shared or vendor == "Apple" else 0
        self.shared_low = self.shared_bytes - min(SYSTEM, self.shared_bytes // 8)
        self.name, self.count, self.memory_bytes, self.basis = name, count, memory, basis
        self.usable_bytes, self.usable_low, self.usable_high = usable, low, high

    def less(self, reserve: int) -> Device:
        """The same device with some memory kept by others."""
        if not reserve:
            return self
        usable, low, high = (
            max(0, value - reserve) for value in (self.usable_bytes, self.usable_low, self.usable_high)
        )
        basis = f"{self.basis}, less the reserve"
        made = Device(self.name, self.count, self.memory_bytes, usable, low, high, basis, self.vendor)
        if self.shared_bytes:
            # A byte at least: 0 would say that the memory is its own.
            made.shared_bytes, made.shared_low = (
                max(1, own - reserve) for own in (self.shared_bytes, self.shared_low)
            )
        return made


def usable_memory(entry: dict[str, Any]) -> tuple[int, int, int, int, str]:
    """Driver total, usable, low, high and their basis for a catalog entry. [B]

    What the entry itself says of a device that shares its memory; else the runtime's total where it
    has been read; else the driver's less 600 MiB (+-150); else the marketed size by the vendor's rule:
    NVIDIA and Intel count binary, less the same reserve, but HBM in decimal; AMD exposes almost all;
    Apple lets the GPU use its working set, more since macOS 15: that is the range.
    """
    memory, usable, low, high, basis = _by_totals(entry)
    if not any(entry.get(key) for key in ("usable_gib", "usable_low_gib", "usable_high_gib")):
        return memory, usable, low, high, basis
    usable = int(entry.get("usable_gib", 0) * GIB) or usable
    low = int(entry.get("usable_low_gib", 0) * GIB) or min(low, usable)
    high = int(entry.get("usable_high_gib", 0) * GIB) or max(high, usable)
    return memory, usable, low, high, f"{entry.get('usable_source', 'the catalog')}"


def _by_totals(entry: dict[str, Any]) -> tuple[int, int, int, int, str]:
    """The same by the entry's memory totals alone."""
    driver = int(entry["memory_mib_driver"] * MIB) if entry.get("memory_mib_driver") else 0
    if entry.get("working_set_gib"):
        limit = int(entry["working_set_gib"] * GIB)
        total = int(entry.get("memory_gb", 0) * GIB) or limit
        low, high = working_set(total, "")
        return total, limit, min(low, limit), max(high, limit), "the default working-set limit"
    if entry.get("memory_mib_runtime"):
        runtime = int(entry["memory_mib_runtime"] * MIB)
        return driver or runtime, runtime, runtime, runtime, "the runtime's total as read"
    if driver and entry.get("vendor") == "AMD":
        return driver, driver, driver - CUDA_RESERVE_SPREAD, driver, "the driver's total"
    if driver:
        usable = driver - CUDA_RESERVE
        low, high = usable - CUDA_RESERVE_SPREAD, usable + CUDA_RESERVE_SPREAD
        return driver, usable, low, high, "the driver's total less 600 MiB, assumed"
    if not entry.get("memory_gb"):
        raise InputError(
            f"{entry['name']} has no memory size of its own in the catalog.", "Give a size: --gpu 64GiB."
        )
    marketed, decimal = int(entry["memory_gb"] * GIB), int(entry["memory_gb"] * 10**9)
    if entry.get("kind") == "soc":
        usable = marketed - CUDA_RESERVE
        return marketed, usable, marketed * 3 // 4, usable, "shared with the system, assumed"
    if entry.get("kind", "gpu") != "gpu":
        return marketed, marketed, decimal, marketed, "the marketed size, assumed"
    if entry.get("vendor") == "AMD":
        usable, low = marketed - 100 * MIB, marketed - 300 * MIB
        return marketed, usable, low, marketed, "the marketed size less 100 MiB, assumed"
    high = marketed - CUDA_RESERVE + CUDA_RESERVE_SPREAD
    size = decimal if str(entry.get("memory_type", "")).startswith("HBM") else marketed
    usable = size - CUDA_RESERVE
    return marketed, usable, usable - CUDA_RESERVE_SPREAD, high, "the marketed size less 600 MiB, assumed"


def working_set(memory: int, version: str) -> tuple[int, int]:
    """The least and the most of a Mac's memory that macOS leaves to its GPU by default. [B]

    Two thirds up to 32 GiB, three quarters above. Since macOS 15 logs show more: 74 % of 16 GiB, 78 %
    of 48, 84 % of 128 and 90.6 % of 512, not on every machine.

    Examples
    --------
    >>> [limit / GIB for limit in working_set(64 * GIB, "14.7")]
    [48.0, 48.0]
    """
    low = memory * 2 // 3 if memory <= 32 * GIB else memory * 3 // 4
    major = version.partition(".")[0]
    if major.isdigit() and 11 <= int(major) <= 14:  # a Python of old calls any later one 10.16
        return low, low
    steps = ((16, 740), (48, 780), (128, 840))
    most = next((share for size, share in steps if memory <= size * GIB), 906)
    return low, memory * most // 1000


def device_of(entry: dict[str, Any], count: int | None = None) -> Device:
    """Make a device of a catalog entry.

    Examples
    --------
    >>> card = device_of(Catalog().lookup("gpus", "h200"))
    >>> card.memory_bytes // MIB
    143771
    """
    memory, usable, low, high, basis = usable_memory(entry)
    vendor = str(entry.get("vendor", ""))
    shared = entry.get("kind") == "soc"
    return Device(str(entry["name"]), count, memory, usable, low, high, basis, vendor, shared)


def _sized(text: str) -> Device | None:
    folded = text.strip().lower()
    if not folded.endswith(tuple(suffix for suffix in BYTES if suffix)):
        return None
    try:
        memory = parse_bytes(text, "--gpu")
    except InputError:
        return None
    if memory <= 0:
        raise InputError(f"--gpu {text!r} has no memory.", "Give a size above 0, such as 24GiB.")
    return Device(text.strip(), None, memory, memory, memory, memory, "the size as given")


def _counted(text: str) -> tuple[int, str] | None:
    """Split ``8xh100`` or ``4 x rtx-4090`` into number and name."""
    stripped = text.strip()
    digits = stripped[: len(stripped) - len(stripped.lstrip("0123456789"))]
    rest = stripped[len(digits) :].lstrip()
    if not digits or rest[:1].lower() not in ("x", "×", "*"):
        return None
    return int(digits[:18]), rest[1:].strip()


def parse_gpu(text: Any, catalog: Catalog) -> Device:
    """Read ``h100-80gb``, ``8xh100-80gb``, ``"4x rtx-4090"`` or ``24GiB``.

    Raises
    ------
    UnknownNameError
        For a name that the catalog lacks, with the nearest ones.

    Examples
    --------
    >>> parse_gpu("8xH100-80GB", Catalog()).count
    8
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"--gpu {text!r} names no GPU.", "Name one, such as rtx-4090, 8xh100-80gb or 24GiB.")
    if text.strip().lower() == "auto":
        raise InputError(
            "--gpu auto stands for no single GPU.", "Name the card, such as rtx-4090, or its size."
        )
    entry = catalog.lookup("gpus", text)
    if entry is not None:
        return device_of(entry)
    counted = _counted(text)
    if counted is not None:
        number, rest = counted
        if not rest:
            raise InputError(f"--gpu {text[:60]!r} names no GPU.", "Write it as in 8xh100-80gb.")
        if rest.lower() == "auto":
            raise InputError(
                f"--gpu {text[:60]!r}: auto counts this machine's GPUs itself.",
                f"Write --gpu auto, or name the card, as in {number}xrtx-4090.",
            )
        if not 1 <= number <= MAX_GPUS:
            raise InputError(
                f"--gpu {text[:60]!r} asks for {number:,} GPUs.",
                f"Use 1 to {MAX_GPUS:,}, as in 8xh100-80gb.",
            )
        device = parse_gpu(rest, catalog)
        if device.count is not None:
            raise InputError(f"--gpu {text[:60]!r} gives two numbers.", "Write one, such as 8xh100-80gb.")
        device.count = number
        return device
    sized = _sized(text)
    if sized is not None:
        return sized
    bare = text.strip().lstrip("-")
    if bare.isascii() and bare.isdigit():
        raise UnknownNameError(
            f"There is no GPU {text[:40]!r}.", f"Did you mean {bare[:8]}GiB? Sizes need a unit."
        )
    entry = catalog.require("gpus", text, "GPU", "llmcalc gpus lists all; a size such as 24GiB does too.")
    return device_of(entry)


def parse_gpus(
    text: Any, catalog: Catalog, auto: Callable[[Catalog], list[Device]] | None = None
) -> list[Device]:
    """Read one or several GPUs, separated by commas; `auto` finds those that the word auto stands for.

    Raises
    ------
    LlmcalcError
        With all names that are unknown together.
    """
    several = list(text) if isinstance(text, (list, tuple)) else [text]
    words = text.split(",") if isinstance(text, str) else several
    devices = []
    wrong: list[LlmcalcError] = []
    for word in words:
        try:
            if auto is not None and isinstance(word, str) and word.strip().lower() == "auto":
                devices += auto(catalog)
            else:
                devices.append(parse_gpu(word, catalog))
        except (InputError, UnknownNameError) as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise UnknownNameError("\n".join(error.problem for error in wrong), join_remedies(wrong))
    return devices


def sizes_table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Rows of the derived table of cards to suggest: usable bytes (low), driver's total, name."""
    rows = []
    for entry in entries:
        if entry.get("popular"):
            memory, _, low, _, _ = usable_memory(entry)
            rows.append((low, memory, str(entry["name"])))
    return ["\t".join(map(str, row)) for row in sorted(rows)]


def smallest_cards(
    need: int, catalog: Catalog, limit: int = 3, runs: Callable[[str], bool] | None = None
) -> list[tuple[str, int]]:
    """The smallest cards that surely hold `need` bytes: names and totals of one size class.

    The shipped catalog's popular cards, and the user's own; of those the ones that `runs` takes by name.
    """
    rows = [(int(usable), int(memory), name) for usable, memory, name in catalog.table("gpu_sizes")]
    for entry in catalog.own("gpus"):
        memory, _, low, _, _ = usable_memory(entry)
        rows.append((low, memory, str(entry["name"])))
    found: list[tuple[str, int]] = []
    for usable, memory, name in sorted(rows):
        if usable < need:
            continue
        # One size class: cards within 3 % of the smallest that fits.
        if found and (len(found) == limit or memory > found[0][1] * 103 // 100):
            break
        if runs is None or runs(name):
            found.append((name, memory))
    return found
