"""Parts of a device: MIG slices, the other state of ECC, limits set by hand; and every known total."""

from __future__ import annotations

import re
from typing import Any

from llmcalc.catalog import Catalog, fold
from llmcalc.errors import InputError, one_of
from llmcalc.hardware import CUDA_RESERVE_SPREAD, Device, device_of, sized_device, usable_memory
from llmcalc.units import GIB, MIB

ECC = {"ecc-on": "enabled", "ecc-off": "disabled"}
PART = re.compile(r"^(.+?)(?::|[ -]MIG[ -]|[ -](?=ECC[ -]o[nf]))\s*(.+)$", re.IGNORECASE)
"""``h100:3g.40gb``, ``a40:ecc-off``, ``m4-max-64gb:56GiB``; a driver writes ``... MIG 3g.40gb``."""


def ecc_totals(entry: dict[str, Any]) -> dict[str, int]:
    """The driver's total with error correction on and off, where it costs memory; else nothing. [B]

    GDDR6 keeps its check bits in a sixteenth of itself; HBM has room of its own.

    Examples
    --------
    >>> {state: total // MIB for state, total in ecc_totals(Catalog().lookup("gpus", "a40")).items()}
    {'enabled': 46068, 'disabled': 49139}
    """
    state, driver = entry.get("ecc_of_driver_total"), entry.get("memory_mib_driver")
    if not state or not driver:
        return {}
    total = int(driver * MIB)
    if state == "enabled":
        return {"enabled": total, "disabled": total * 16 // 15}
    return {"enabled": total * 15 // 16, "disabled": total}


def part_of(entry: dict[str, Any], part: str) -> Device:
    """A device's MIG slice, its other state of ECC, or a limit that was set on what its GPU may take.

    Raises
    ------
    InputError
        For a slice or a state that it does not have, and a limit above its memory.

    Examples
    --------
    >>> slice_ = part_of(Catalog().lookup("gpus", "h100"), "3g.40gb")
    >>> slice_.name, slice_.usable_bytes / GIB
    ('H100 SXM MIG 3g.40gb', 39.5)
    """
    whole, word = device_of(entry), part.strip().lower().replace("ecc ", "ecc-")
    name = str(entry["name"])
    if word in ECC:
        return _with_ecc(entry, whole, word)
    profiles: dict[str, float] = entry.get("mig") or {}
    plain = word.partition("+")[0].removesuffix("-me")
    if plain in profiles:
        total = int(profiles[plain] * GIB)
        assumed = plain in entry.get("mig_assumed", ())
        spread = total * 8 // 100 if assumed else 0
        basis = "a share of the card's memory, assumed" if assumed else "the slice's total as read"
        label = f"{name} MIG {plain}"
        return Device(label, None, total, total, total - spread, total + spread, basis, whole.vendor)
    limit = sized_device(part)
    if limit is not None:
        if limit.memory_bytes > whole.memory_bytes:
            raise InputError(
                f"--gpu {name}:{part[:20]} is more than the {whole.memory_bytes / GIB:.4g} GiB there are.",
                "Give what its GPU may take, as set by iogpu.wired_limit_mb, the BIOS or a cgroup.",
            )
        size = limit.memory_bytes
        return Device(name, None, whole.memory_bytes, size, size, size, "the limit as given", whole.vendor)
    known = [f"{fold(name)}:{one}" for one in profiles]
    known += [f"{fold(name)}:{one}" for one in ECC if ecc_totals(entry)]
    raise InputError(
        f"--gpu: {name} has no part {part[:30]!r}.",
        f"Use {one_of(known)}, or a limit such as :16GiB." if known else "Give a limit, such as :16GiB.",
    )


def _with_ecc(entry: dict[str, Any], whole: Device, word: str) -> Device:
    """A card with error correction on or off."""
    totals, name = ecc_totals(entry), str(entry["name"])
    if not totals:
        raise InputError(
            f"--gpu {name}:{word}: error correction costs this card no memory, or nobody has read it.",
            f"Leave :{word} out.",
        )
    total = totals[ECC[word]]
    if total == whole.memory_bytes:
        return whole
    less = whole.memory_bytes - whole.usable_bytes
    usable, spread = total - less, CUDA_RESERVE_SPREAD
    basis = f"the driver's total by ECC's sixteenth, less {less / MIB:.0f} MiB, assumed"
    label = f"{name} {word.upper().replace('-', ' ')}".replace(" ON", " on").replace(" OFF", " off")
    return Device(label, None, total, usable, usable - spread, usable + spread, basis, whole.vendor)


def base_of(text: str, catalog: Catalog) -> tuple[str, str]:
    """The name of a device and of its part; the latter empty where the text names a whole device.

    Examples
    --------
    >>> base_of("h100-80gb:3g.40gb", Catalog()), base_of("h100-80gb", Catalog())
    (('h100-80gb', '3g.40gb'), ('h100-80gb', ''))
    """
    match = PART.match(text.strip())
    if match is None or catalog.lookup("gpus", text) is not None:
        return text, ""
    first = str(match[1])
    for word in (first, first.strip().removeprefix("NVIDIA ")):
        if catalog.lookup("gpus", word) is not None:
            return word, str(match[2])
    return text, ""


def find_part(text: str, catalog: Catalog) -> Device | None:
    """Read a part of a device of the catalog; None if the text names none.

    Examples
    --------
    >>> find_part("NVIDIA A100-SXM4-40GB MIG 1g.5gb", Catalog()).usable_bytes / GIB
    4.75
    """
    base, part = base_of(text, catalog)
    entry = catalog.lookup("gpus", base) if part else None
    return part_of(entry, part) if entry is not None else None


def totals_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Every memory total that is known of a device: its name, bytes, grade and source. [B]

    Examples
    --------
    >>> [(row["total"], row["bytes"] // MIB) for row in totals_of(Catalog().lookup("gpus", "l4"))][:2]
    [('marketed', 24576), ('driver, ECC on', 23034)]
    """

    def cited(key: str) -> str:
        value = entry.get(key) or "the entry's sources"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    rows: list[dict[str, Any]] = []

    def add(total: str, size: float, grade: str, source: str) -> None:
        rows.append({"total": total, "bytes": int(size), "grade": grade, "source": source})

    state = {"enabled": ", ECC on", "disabled": ", ECC off"}
    own = entry.get("ecc_of_driver_total")
    if entry.get("memory_gb"):
        decimal = str(entry.get("memory_type", "")).startswith("HBM") and entry.get("vendor") == "NVIDIA"
        scale = 10**9 if decimal and not entry.get("memory_mib_driver") else GIB
        add("marketed", entry["memory_gb"] * scale, "as marketed", "the name on the box")
    if entry.get("memory_mib_driver"):
        driver = entry["memory_mib_driver"] * MIB
        word = state.get(str(own), "")
        add(f"driver{word}", driver, "as read", cited("memory_mib_driver_source"))
    for other, total in ecc_totals(entry).items():
        if other != own:
            add(f"driver{state[other]}", total, "derived", "GDDR6 pays a sixteenth for ECC")
    if entry.get("memory_mib_runtime"):
        runtime = entry["memory_mib_runtime"] * MIB
        add("runtime", runtime, "as read", cited("memory_mib_runtime_source"))
    if entry.get("working_set_gib"):
        limit = entry["working_set_gib"] * GIB
        source = f"{cited('working_set_source')}; sysctl iogpu.wired_limit_mb sets another"
        add("macOS lets the GPU take", limit, "as read", source)
    try:
        _, usable, low, high, basis = usable_memory(entry)
    except InputError:
        return rows
    add("usable", usable, "assumed" if low < high else "as read", basis)
    for profile, size in (entry.get("mig") or {}).items():
        grade = "assumed" if profile in entry.get("mig_assumed", ()) else "as read"
        add(f"MIG {profile}", size * GIB, grade, cited("mig_source"))
    return rows
