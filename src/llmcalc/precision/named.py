"""Schemes by name: ``awq``, ``gptq-8bit-g32``, ``nf4-dq``, ``exl3-3.0``, ``q4_k_m+imatrix``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmcalc.errors import InputError, one_of
from llmcalc.precision.gguf import File
from llmcalc.precision.scheme import PLAIN, TOWERS, Chooser, Module, Scheme, plain
from llmcalc.units import whole_or_fraction

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog

UNQUANTIZED = ("none", "no", "off", "unquantized")
"""Words for weights in the checkpoint's own dtype."""

DTYPES = {
    "bf16": "bf16", "bfloat16": "bf16", "16bit": "bf16", "fp16": "fp16", "float16": "fp16", "half": "fp16",
    "fp32": "fp32", "float32": "fp32", "32bit": "fp32",
}  # fmt: skip
"""Words for weights that are not quantized, but in a dtype of their own."""

IMATRIX = re.compile(r"(?i)[\s+_-]+(imatrix|imat|i1)$")
HEAD = 6
"""Bits of the head where ExLlama's converter is left alone. [bit]"""

EXL2_HEADS = {6: (6344, 1000), 8: (803, 100)}
"""What EXL2's head comes to with its scales, as a ratio: a sixth of it is kept at 8 bits. [bit]"""

CONTINUOUS = ("exl2", "exl3")
"""Methods of any number of bits between two."""

WORDS = re.compile(r"[\s_\-+,]+")


def find_scheme(name: Any, catalog: Catalog) -> Scheme | File:
    """The scheme of a name; `PLAIN` for unquantized weights.

    Raises
    ------
    InputError
        If the name, its bits or its group size are not known.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"--quant {name!r} names no scheme.", "Name one, such as q4_k_m, awq or nf4.")
    text = re.sub(r"\s*\([^)]*\)", "", name.strip().lower())
    if text in UNQUANTIZED:
        return PLAIN
    if text in DTYPES:
        return plain(DTYPES[text])
    mixed = re.match(r"(.+?)\s*\+\s*(.+?)[\s-]+experts$", text)
    if mixed and not IMATRIX.search(text):
        return _both(find_scheme(mixed.group(1), catalog), find_scheme(mixed.group(2), catalog), text)
    only = re.match(r"(.+?)[\s-]+experts(?:[\s-]+only)?$", text)
    if only and catalog.lookup("schemes", text) is None:
        return _both(PLAIN, find_scheme(only.group(1), catalog), text)
    file = _file(text, catalog)
    if file is not None:
        return file
    entry, words = _entry(text, catalog)
    if entry is None:
        raise _unknown(name, catalog)
    return make(entry, _options(name, entry, words))


def _file(text: str, catalog: Catalog) -> File | None:
    """A GGUF file type, with or without an importance matrix."""
    bare = re.sub(r"^(gguf|ggml)[:/_\s-]+", "", text)
    stated = IMATRIX.search(bare)
    bare = bare[: stated.start()] if stated else bare
    entry = catalog.lookup("schemes", bare)
    if (entry is None or entry["method"] != "gguf") and bare != text:
        entry = catalog.lookup("schemes", f"gguf-{bare}")
    if entry is None or entry["method"] != "gguf":
        return None
    file = File(str(entry["name"]).removeprefix("gguf-"), bool(stated))
    file.name = f"{entry['name']}+imatrix" if stated else str(entry["name"])
    file.entry = entry
    return file


def _entry(text: str, catalog: Catalog) -> tuple[dict[str, Any] | None, list[str]]:
    """The scheme that a name starts with, and the words after it."""
    words = [word for word in WORDS.split(text) if word]
    for count in range(len(words), 0, -1):
        entry = catalog.lookup("schemes", "-".join(words[:count]))
        if entry is not None and entry["method"] != "gguf":
            return entry, words[count:]
    return None, []


def _options(name: str, entry: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """Options that the words after a scheme's name state: ``8bit``, ``g32``, ``asym``, ``dq``, ``h8``."""
    found: dict[str, Any] = {}
    for word in words:
        if match := re.fullmatch(r"(?:int|w)?(\d+(?:\.\d+)?)(?:bit|bits|bpw|b)?", word):
            key, value = "bits", _number(match.group(1))
        elif match := re.fullmatch(r"g(?:s|roup)?(-?\d+)", word):
            key, value = "group", int(match.group(1))
        elif match := re.fullmatch(r"h(\d+)", word):
            key, value = "head", int(match.group(1))
        elif word in ("sym", "asym"):
            key, value = "symmetric", word == "sym"
        elif word in ("dq", "double") and "double" in entry.get("options", {}):
            key, value = "double", True
        elif word in ("static", "dynamic"):
            key, value = "static", word == "static"
        else:
            raise InputError(
                f"--quant {name[:60]!r}: {word[:20]!r} means nothing to {entry['name']}.",
                f"Write it as {entry['name']}{_example(entry)}.",
            )
        if found.setdefault(key, value) != value:
            raise InputError(f"--quant {name[:60]!r} states {key} twice.", "Keep one.")
    _check(name, entry, found)
    return found


def _number(text: str) -> Any:
    from fractions import Fraction

    value = Fraction(text)
    return int(value) if value.denominator == 1 else value


def _example(entry: dict[str, Any]) -> str:
    bits = entry.get("bits") or [entry.get("options", {}).get("bits", 4)]
    return f"-{bits[0]:g}bit" + (f"-g{entry['group'][-1]}" if entry.get("group") else "")


def _check(name: str, entry: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuse bits and groups that the method does not have."""
    allowed, bits = entry.get("bits") or [], found.get("bits")
    if bits is not None:
        continuous = entry["method"] in CONTINUOUS
        inside = allowed and allowed[0] <= bits <= allowed[-1] if continuous else bits in allowed
        if not inside:
            shown = (
                f"{allowed[0]:g} to {allowed[-1]:g}" if continuous else one_of([f"{b:g}" for b in allowed])
            )
            raise InputError(
                f"--quant {name[:60]!r}: {entry['name']} has no {float(bits):g} bits.", f"Use {shown} bits."
            )
    group = found.get("group")
    if group is not None and group not in (entry.get("group") or []):
        sizes = [str(size) for size in entry.get("group") or []]
        remedy = f"Use a group of {one_of(sizes)}." if sizes else "Leave the group out."
        raise InputError(f"--quant {name[:60]!r}: {entry['name']} has no groups of {group}.", remedy)


def make(entry: dict[str, Any], found: dict[str, Any] | None = None) -> Scheme:
    """The scheme of a catalog entry with options of its own."""
    given = dict(found or {})
    options = {**(entry.get("options") or {}), **given}
    head = options.pop("head", HEAD)
    if isinstance(options.get("bits"), float):
        options["bits"] = _number(str(options["bits"]))
    choose = _chooser(entry, options, head)
    scheme = Scheme(
        _label(entry, given, options, head),
        choose,
        grade=str(entry.get("grade", "exact")),
        source=", ".join(entry.get("sources") or []),
    )
    scheme.entry = {**entry, "options": options}
    if entry["method"] == "gpt_oss":
        dense = {**entry, "method": "mx", "touches": ["linear"]}
        scheme.dense = _chooser(dense, {"bits": 4}, head)
    return scheme


def _label(entry: dict[str, Any], given: dict[str, Any], options: dict[str, Any], head: int) -> str:
    """The canonical name: bits and group where the entry offers a choice."""
    name, bits = str(entry["name"]), options.get("bits")
    if entry["method"] in CONTINUOUS:
        name += f"-{float(bits or 0):.2f}"
    elif bits is not None and (given.get("bits") or not re.search(r"\d", name)):
        name += f"-{bits}bit" if str(bits) not in re.findall(r"\d+", name) else ""
    if entry.get("group") and "group" in options:
        name += f"-g{options['group']}" if options["group"] != -1 else "-channel"
    if given.get("symmetric") is False:
        name += "-asym"
    return name + (f"-h{head}" if head != HEAD else "")


def _chooser(entry: dict[str, Any], options: dict[str, Any], head: int) -> Chooser:
    method, touches, towers = entry["method"], set(entry["touches"]), bool(entry.get("towers"))
    bits = {**options, "bits": _head_bits(method, head)} if method in CONTINUOUS else options

    def choose(module: Module) -> tuple[str, dict[str, Any]] | None:
        if module.kind not in touches or (module.component in TOWERS and not towers):
            return None
        columns = module.matrix.columns if module.matrix else 0
        if method == "mlx" and module.kind == "router":
            return None if columns % 64 else ("mlx", {"bits": 8, "group": 64})
        if entry.get("skips") and columns % int(options.get("group", 1)):
            return None
        return method, bits if module.kind == "head" else options

    return choose


def _head_bits(method: str, head: int) -> Any:
    """Bits of the head, with what its scales come to where the bits of all else include theirs."""
    if method != "exl2":
        return head
    return whole_or_fraction(*EXL2_HEADS.get(head, (25 * head + 1, 25)))


def _both(rest: Scheme | File, experts: Scheme | File, name: str) -> Scheme:
    """One scheme for routed experts and another (or none) for all else."""
    if isinstance(rest, File) or isinstance(experts, File):
        raise InputError(f"--quant {name[:60]!r} mixes what no checkpoint does.", "Name one scheme.")

    def choose(module: Module) -> tuple[str, dict[str, Any]] | None:
        return (experts if module.kind == "expert" else rest).choose(module)

    made = Scheme(name, choose, grade=experts.grade, source=experts.source)
    made.entry = experts.entry
    return made


def _unknown(name: str, catalog: Catalog) -> InputError:
    near = catalog.nearest("schemes", name)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return InputError(
        f"--quant {name[:60]!r} is not a known scheme.",
        f"{hint}llmcalc formats lists them; --bits N prices every weight alike.",
    )
