"""The GPUs of the machine it runs on, as the programs that come with their drivers tell them.

Imported only when somebody asks for ``--gpu auto``: nothing else starts another program.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from subprocess import DEVNULL, Popen, TimeoutExpired
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, UnknownNameError, one_of
from llmcalc.hardware import Device, device_of, working_set
from llmcalc.units import GIB, MIB

TIMEOUT = 20.0
"""How long a program may take. Without persistence mode the driver starts anew, for seconds a card. [s]"""

MOST_OUTPUT = MIB
"""What a program may print. [B]"""

SPREAD = 150 * MIB
"""How far what a process gets may stay below the free memory that a driver tells (assumed). [B]"""

OWN_MEMORY = GIB
"""A GPU with less borrows the system's memory, or is too small for any model. [B]"""

MEMINFO = "/proc/meminfo"

_MARKS = re.compile(r"\((?:tm|r)\)|[\u2122\u00ae]", re.IGNORECASE)
_TAILS = re.compile(
    r"(?:\s+(?:OAM|VF|HF|AC|LC|MBA|SXM\d*|Dual Slot|Graphics|\(MCM\)|\(nvgpu\)))+$", re.IGNORECASE
)
"""What programs print behind a card's name, of its board rather than of the card."""


VENDORS = {"nvidia-smi": "NVIDIA", "rocm-smi": "AMD", "amd-smi": "AMD", "sysctl": "Apple"}
"""Whose cards a program tells of."""


class Card:
    """One GPU as a program tells it.

    Attributes
    ----------
    name, tool : str
        As printed, and the program.
    memory, free : int
        All its memory, and what nobody holds now. [B]
    device : Device or None
        Ready-made, for a GPU that shares the system's memory.
    """

    __slots__ = ("device", "free", "memory", "name", "tool")

    def __init__(self, name: str, memory: int, free: int, tool: str, device: Device | None = None) -> None:
        self.name, self.memory, self.free, self.tool, self.device = name, memory, free, tool, device


class UnreadableError(Exception):
    """A program that is there and tells no GPU; the text says why."""


class AbsentError(Exception):
    """A program that is not there; the text is its name."""


def find_gpus(catalog: Catalog) -> list[Device]:
    """All GPUs of this machine that have memory for a model; equal ones are one device with a count.

    `memory_bytes` is what the driver reports; usable is what is free now (of equal cards on the fullest
    one), and its range reaches 150 MiB down. On Apple silicon usable is the limit of the GPU's working
    set: ``iogpu.wired_limit_mb`` where it is set, else macOS's default, which the range spans.

    Raises
    ------
    InputError
        If there is none, with all that was tried.
    """
    cards: list[Card] = []
    absent: list[str] = []
    reasons: list[str] = []
    for reader in (read_nvidia, read_rocm, read_amd, read_apple):
        if reader is read_amd and any(card.tool == "rocm-smi" for card in cards):
            continue
        try:
            cards += reader(catalog)
        except AbsentError as program:
            absent.append(str(program))
        except UnreadableError as reason:
            reasons.append(str(reason))
    large = [card for card in cards if card.memory >= OWN_MEMORY]
    if large:
        return grouped(large, catalog)
    reasons += [f"{_quoted(card.name)} has {card.memory // MIB:,} MiB of its own" for card in cards]
    if absent:
        reasons.append(f"there is no {one_of(absent)}")
    raise InputError(
        f"--gpu auto finds no GPU that it can read: {'; '.join(dict.fromkeys(reasons))}.",
        "Name the card, such as rtx-4090, or its size.",
    )


def grouped(cards: Iterable[Card], catalog: Catalog) -> list[Device]:
    """Devices of cards: those of one name and size together, with what is free on the fullest.

    Examples
    --------
    >>> pair = [Card("NVIDIA GeForce RTX 4090", 24564 * MIB, free * MIB, "nvidia-smi") for free in (9, 7000)]
    >>> (device,) = grouped(pair, Catalog())
    >>> device.count, device.name, device.usable_bytes // MIB
    (2, 'RTX 4090', 9)
    """
    devices = []
    kinds: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for card in cards:
        if card.device is not None:
            devices.append(card.device)
            continue
        entry = entry_of(card.name, card.memory, catalog)
        name = card.name if entry is None else str(entry["name"])
        kinds.setdefault((name, card.memory), []).append((card.free, card.tool))
    for (name, memory), found in kinds.items():
        free, tool = min(found)
        which = "free now" if len(found) == 1 else "free now on the fullest"
        basis = f"{which}, of this machine ({tool})"
        low, vendor = max(0, free - SPREAD), VENDORS.get(tool, "")
        devices.append(Device(name, len(found), memory, free, low, free, basis, vendor))
    return devices


# -- names -------------------------------------------------------------------------------------


def entry_of(name: str, memory: int | None, catalog: Catalog) -> dict[str, Any] | None:
    """The catalog's entry of a printed name; None if no entry of that name has about that memory. [B]

    Examples
    --------
    >>> entry_of("NVIDIA GeForce RTX 4060 Ti", 16380 * MIB, Catalog())["name"]
    'RTX 4060 Ti 16GB'
    >>> entry_of("Navi 31 [Radeon Pro W7900]", 49136 * MIB, Catalog())["name"]
    'Radeon PRO W7900'
    """
    for word in spellings(name, memory):
        try:
            entry = catalog.lookup("gpus", word)
        except UnknownNameError:  # it fits several: only the size tells which
            continue
        if entry is not None and _agrees(entry, memory):
            return entry
    return None


def spellings(name: str, memory: int | None) -> list[str]:
    """The ways to look a printed name up, the most telling first.

    Examples
    --------
    >>> spellings("AMD Instinct MI300X OAM", None)
    ['AMD Instinct MI300X OAM', 'Instinct MI300X OAM', 'AMD Instinct MI300X', 'Instinct MI300X']
    """
    plain = " ".join(_MARKS.sub("", name).split())
    inner = plain[plain.find("[") + 1 : -1] if "[" in plain and plain.endswith("]") else plain
    words: list[str] = []
    for text in (inner, _TAILS.sub("", inner)):
        for prefix in ("", "NVIDIA GeForce ", "NVIDIA ", "AMD "):
            if text.startswith(prefix):
                words.append(text[len(prefix) :])
    if memory is not None:
        size = -(-memory // GIB)
        words = [f"{word} {size}GB" for word in words] + words
    return list(dict.fromkeys(words))


def _agrees(entry: dict[str, Any], memory: int | None) -> bool:
    """Whether a card may be that entry: halves of a board and slices have its name, not its memory."""
    known = entry.get("memory_mib_driver") or entry.get("memory_mib_runtime")
    known = known or 1024 * (entry.get("memory_gb") or 0)
    return memory is None or not known or 0.88 <= memory / (known * MIB) <= 1.12


# -- programs ----------------------------------------------------------------------------------


def ask(program: str, *arguments: str) -> tuple[int, str, str]:
    """Run a program: its exit status, and what it prints on both streams.

    Raises
    ------
    AbsentError
        If it is not on the PATH.
    UnreadableError
        If it can't be started, or gives no answer in time.
    """
    path = shutil.which(program)
    if path is None:
        raise AbsentError(program)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = Popen(
                [path, *arguments], stdin=DEVNULL, stdout=out, stderr=err, env={**os.environ, "LC_ALL": "C"}
            )
        except OSError as error:
            raise UnreadableError(f"{program} can't be started ({error.strerror})") from None
        end = time.monotonic() + TIMEOUT
        while process.poll() is None:
            size = max(os.fstat(file.fileno()).st_size for file in (out, err))
            if size > MOST_OUTPUT or time.monotonic() > end:
                process.kill()
                with contextlib.suppress(TimeoutExpired):
                    process.wait(1)  # no longer: a program that a broken driver holds can't be killed
                why = "prints without end" if size > MOST_OUTPUT else f"gives no answer in {TIMEOUT:g} s"
                raise UnreadableError(f"{program} {why}")
            time.sleep(0.005)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(MOST_OUTPUT).decode("utf-8", "replace"))
    return process.returncode, texts[0], texts[1]


def _quoted(text: str) -> str:
    """The first line of what a program prints, fit for a message."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = "".join(letter if letter.isprintable() else "?" for letter in line).rstrip(".")
    return f"{line[:117]}..." if len(line) > 120 else line


def _failure(program: str, status: int, *streams: str) -> UnreadableError:
    said = next(filter(None, map(_quoted, streams)), "")
    return UnreadableError(f"{program} says {said!r}" if said else f"{program} fails with exit code {status}")


def _number(text: Any) -> int | None:
    """A whole number of a program's output; None for ``[N/A]`` and the like."""
    word = str(text).strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) < 18 else None


def _card(name: str, memory: int | None, free: int | None, tool: str) -> Card:
    """A card, if its figures make sense."""
    if not memory or free is None or not 0 <= free <= memory or not name:
        raise UnreadableError(f"{tool} tells no memory of {_quoted(name) or 'a GPU'}")
    return Card(_quoted(name), memory, free, tool)


# -- NVIDIA ------------------------------------------------------------------------------------


def read_nvidia(catalog: Catalog) -> list[Card]:
    """The cards that nvidia-smi lists. A card that it can't read is told, not passed over."""
    status, out, err = ask(
        "nvidia-smi", "--query-gpu=name,memory.total,memory.used,memory.free", "--format=csv,noheader,nounits"
    )
    lines = [line for line in out.splitlines() if line.strip() and not line.startswith("WARNING:")]
    rows = [[field.strip() for field in line.split(",")] for line in lines]
    for line, fields in zip(lines, rows, strict=True):
        if len(fields) != 4 or not fields[0]:
            raise UnreadableError(f"nvidia-smi says {_quoted(line)!r}")
    if not rows or status not in (0, 14):  # 14: answers beside a warning of a corrupted infoROM
        raise _failure("nvidia-smi", status, err)
    if any("GeForce" not in fields[0] for fields in rows):
        _refuse_slices()
    return [_nvidia_card(fields, catalog) for fields in rows]


def _nvidia_card(fields: list[str], catalog: Catalog) -> Card:
    memory, used, free = map(_number, fields[1:])
    if memory is used is free is None:
        return _borrowing(fields[0], catalog)
    return _card(fields[0], memory and memory * MIB, free and free * MIB, "nvidia-smi")


def _refuse_slices() -> None:
    """A card in MIG mode runs nothing itself, and what it reports is no slice's memory."""
    _, out, _ = ask("nvidia-smi", "-L")
    slices = dict.fromkeys(re.findall(r"^\s+MIG (\S+)", out, re.MULTILINE))
    if slices:
        raise UnreadableError(
            f"MIG splits a card into {_quoted(', '.join(slices))}, whose memory is not told"
        )


def _borrowing(name: str, catalog: Catalog) -> Card:
    """A GPU that the catalog knows to share the system's memory, so that its driver tells none."""
    total, available = _system_memory()
    entry = entry_of(name, None, catalog)
    if entry is None or entry.get("kind") != "soc" or not total or not available:
        raise UnreadableError(f"nvidia-smi tells no memory of {_quoted(name)}")
    usable = min(device_of(entry).usable_bytes, available)
    basis = f"what the system has available now, of this machine ({MEMINFO})"
    low = max(0, usable - SPREAD)
    device = Device(str(entry["name"]), 1, total, usable, low, usable, basis, VENDORS["nvidia-smi"])
    device.shared_bytes = device.shared_low = available  # which the system's own share is not in
    return Card(name, total, usable, "", device)


def _system_memory() -> tuple[int, int]:
    """Linux's MemTotal and MemAvailable; 0 where it tells none. [B]"""
    found = {"MemTotal": 0, "MemAvailable": 0}
    with contextlib.suppress(OSError), open(MEMINFO, encoding="ascii", errors="replace") as stream:
        for line in stream:
            key, _, rest = line.partition(":")
            if key in found:
                found[key] = 1024 * (_number(rest.replace("kB", "")) or 0)
    return found["MemTotal"], found["MemAvailable"]


# -- AMD ---------------------------------------------------------------------------------------


def read_rocm(catalog: Catalog) -> list[Card]:
    """The cards that rocm-smi lists. It fails over any one field, so what it prints counts."""
    status, out, err = ask("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
    told = _json(out)
    cards = []
    for key, value in told.items() if isinstance(told, dict) else ():
        if not re.fullmatch(r"card\d+", str(key)) or not isinstance(value, dict):
            continue
        fields = {str(name).lower(): entry for name, entry in value.items()}
        memory = _number(fields.get("vram total memory (b)"))
        used = _number(fields.get("vram total used memory (b)"))
        free = None if memory is None or used is None else memory - used
        cards.append(_card(_product(fields), memory, free, "rocm-smi"))
    if not cards:
        raise _failure("rocm-smi", status, err, out)
    return cards


def _product(fields: dict[str, Any]) -> str:
    """The name among the fields of rocm-smi, which has moved between them; codes are none."""
    names = [str(fields.get(key, "")) for key in ("card series", "device name", "product name", "card model")]
    return next((name for name in names if name and name != "N/A" and name[:2] != "0x"), "AMD GPU")


def read_amd(catalog: Catalog) -> list[Card]:
    """The cards that amd-smi lists, rocm-smi's successor. Its MB are MiB."""
    status, names, err = ask("amd-smi", "static", "--asic", "--json")
    _, sizes, _ = ask("amd-smi", "metric", "--mem-usage", "--json")
    products = {row.get("gpu"): _field(row, "asic", "market_name") for row in _rows(names)}
    cards = []
    for row in _rows(sizes):
        memory, used = (_amount(_field(row, "mem_usage", key)) for key in ("total_vram", "used_vram"))
        free = _amount(_field(row, "mem_usage", "free_vram"))
        if free is None and memory is not None and used is not None:
            free = memory - used
        cards.append(_card(str(products.get(row.get("gpu")) or "AMD GPU"), memory, free, "amd-smi"))
    if not cards:
        raise _failure("amd-smi", status, err, names)
    return cards


def _rows(text: str) -> list[dict[str, Any]]:
    """The GPUs of amd-smi's output: a list, since ROCm 7 under ``gpu_data``, or a single one."""
    told = _json(text)
    if isinstance(told, dict):
        told = told.get("gpu_data", [told] if "gpu" in told else [])
    return [row for row in told if isinstance(row, dict)] if isinstance(told, list) else []


def _field(row: dict[str, Any], section: str, key: str) -> Any:
    inner = row.get(section)
    return inner.get(key) if isinstance(inner, dict) else None


def _amount(value: Any) -> int | None:
    """An amount such as ``{"value": 196592, "unit": "MB"}`` in bytes."""
    units = {"B": 1, "KB": 1024, "MB": MIB, "GB": GIB}
    unit = units.get(str(value.get("unit")), 0) if isinstance(value, dict) else 0
    number = _number(value.get("value")) if unit else None
    return number and number * unit


def _json(text: str) -> Any:
    """The first JSON value in a text that may begin with warnings; None if there is none."""
    import json

    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    try:
        return json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else None
    except (ValueError, RecursionError):
        return None


# -- Apple -------------------------------------------------------------------------------------


def read_apple(catalog: Catalog) -> list[Card]:
    """The GPU of Apple silicon, which shares the system's memory up to a limit; none elsewhere."""
    if platform.system() != "Darwin":
        return []
    status, out, err = ask("sysctl", "-n", "hw.memsize", "machdep.cpu.brand_string", "iogpu.wired_limit_mb")
    # Before macOS 14 there is no such limit: sysctl fails then, and has printed the other two.
    told, chip, limit = [*(line.strip() for line in out.splitlines()), "", "", ""][:3]
    memory = _number(told)
    if not memory or not chip:
        raise _failure("sysctl", status, err, out)
    if "Apple" not in chip:
        raise UnreadableError(f"this Mac has no Apple silicon but {_quoted(chip)}")
    entry = entry_of(chip, memory, catalog)
    version = platform.mac_ver()[0]
    low, high = working_set(memory, version)
    usable = min(max(device_of(entry).usable_bytes if entry else low, low), high)
    basis = f"the default working-set limit of this machine (sysctl, macOS {version or 'unknown'})"
    by_hand = _number(limit)
    if by_hand:
        usable = low = high = min(by_hand * MIB, memory)
        basis = "iogpu.wired_limit_mb of this machine (sysctl)"
    name = chip if entry is None else str(entry["name"])
    device = Device(name, 1, memory, usable, low, high, basis, VENDORS["sysctl"])
    return [Card(chip, memory, usable, "sysctl", device)]
