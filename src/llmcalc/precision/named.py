"""Schemes by name: ``awq``, ``gptq-8bit-g32``, ``nf4-dq``, ``exl3-3.0``, ``q4_k_m+imatrix``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmcalc.errors import InputError, one_of
from llmcalc.precision.checks import trouble
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

WORDS = re.compile(r"[\s_\-+,]+")


LONGEST = 80
"""Characters of a scheme's name."""

TOUCHES = ("linear", "expert")
"""What a scheme quantizes where its entry does not say."""

UNKNOWN_REMARK = re.compile(r"(?i).*\b(not known|unknown|not stated|unstated)\b.*")


def find_scheme(name: Any, catalog: Catalog) -> Scheme | File:
    """The scheme of a name; `PLAIN` for unquantized weights.

    Raises
    ------
    InputError
        If the name, its bits or its group size are not known.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError(
            f"--quant {str(name)[:40]!r} names no scheme.", "Name one, such as q4_k_m, awq or nf4."
        )
    if len(name) > LONGEST:
        raise InputError(
            f"--quant {name[:40]!r}... has {len(name):,} characters, more than any scheme.",
            "Name one, such as q4_k_m, awq or nf4; llmcalc formats lists them.",
        )
    text = re.sub(r"\s*\(([^)]*)\)", lambda match: _remark(name, match.group(1)), name.strip().lower())
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
    _refuse_mix(name, text, catalog)
    entry, words, implied = _entry(text, catalog)
    if entry is None:
        raise _unknown(name, catalog)
    return make(entry, _options(name, entry, words, implied), f"--quant {name!r}")


def _remark(name: str, remark: str) -> str:
    """What stands in parentheses, as words of the name; a remark that something is unknown is none."""
    if UNKNOWN_REMARK.match(remark):
        return ""
    if re.match(r"\s*(double|nested)", remark):
        return "-dq"
    return f"-{remark}"


def _refuse_mix(name: str, text: str, catalog: Catalog) -> None:
    """A mix by layer, as configurations state it, can't be told by its name."""
    parts = [part.strip() for part in text.split("+")]
    if len(parts) > 1 and all(part and _entry(part, catalog)[0] is not None for part in parts):
        raise InputError(
            f"--quant {name!r} mixes schemes; which layer has which, a configuration says alone.",
            f"Give its config.json without --quant, or name one: {' or '.join(parts)}.",
        )


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


def _entry(text: str, catalog: Catalog) -> tuple[dict[str, Any] | None, list[str], list[str]]:
    """The scheme that a name starts with, the words after it, and those that an alias of it spends."""
    words = [word for word in WORDS.split(re.sub(r"\bg(s|roup)?_?-1\b", "channel", text)) if word]
    for count in range(min(len(words), 8), 0, -1):
        entry = catalog.lookup("schemes", "-".join(words[:count]))
        if entry is not None and entry["method"] != "gguf":
            named = [word for word in WORDS.split(str(entry["name"]).lower()) if word]
            return entry, words[count:], [word for word in words[:count] if word not in named]
    if words and (match := re.fullmatch(r"w([2-8])a16", words[0])):
        return catalog.lookup("schemes", "w4a16"), [f"{match.group(1)}bit", *words[1:]], []
    return None, [], []


OPTIONS: dict[str, tuple[str, Any]] = {
    "sym": ("symmetric", True), "asym": ("symmetric", False), "dq": ("double", True),
    "double": ("double", True), "static": ("static", True), "dynamic": ("static", False),
}  # fmt: skip
"""Words that a scheme's entry may list under `words`."""


def _options(name: str, entry: dict[str, Any], words: list[str], implied: list[str]) -> dict[str, Any]:
    """Options that the words after a scheme's name state: ``8bit``, ``g32``, ``asym``, ``dq``, ``h8``."""
    found: dict[str, Any] = {}
    stated: dict[str, Any] = {}
    for word in implied:
        if match := re.fullmatch(r"(?:(?:int|w)(\d+)|(\d+)(?:bit|bits|bpw))", word):
            stated["bits"] = int(match.group(1) or match.group(2))
    for word in words:
        pair = _option(entry, word)
        if pair is None:
            raise InputError(
                f"--quant {name!r}: {word!r} means nothing to {entry['name']}.",
                f"Write it as {_examples(entry)}.",
            )
        key, value = pair
        own = (entry.get("options") or {}).get(key)
        if stated.get(key, value) != value or (key == "static" and own is True and value is False):
            raise InputError(f"--quant {name!r} states {key} twice.", "Keep one.")
        if key == "double" and (own is True or key in found):
            raise InputError(f"--quant {name!r} states dq twice.", "Keep one.")
        stated[key] = found[key] = value
    _check(name, entry, found)
    if entry["method"] == "awq" and "symmetric" in found:
        found["zero_point"] = not found.pop("symmetric")
    return found


def _option(entry: dict[str, Any], word: str) -> tuple[str, Any] | None:
    """The option that one word states, if the scheme has it."""
    method, offered = entry["method"], entry.get("words") or []
    if match := re.fullmatch(r"(?:int|w)?(\d+(?:\.\d+)?)(?:bit|bits|bpw|b)?", word):
        return ("bits", _number(match.group(1))) if entry.get("bits") else None
    if match := re.fullmatch(r"g(?:s|roup)?(\d+)", word):
        return "group", int(match.group(1))
    if word in ("channel", "perchannel", "rowwise"):
        return "group", -1
    if match := re.fullmatch(r"h(\d+)", word):
        return ("head", int(match.group(1))) if entry.get("continuous") else None
    if match := re.fullmatch(r"(\d+)x(\d+)", word):
        sides = int(match.group(1)), int(match.group(2))
        if method == "fp8" and (entry.get("options") or {}).get("strategy") == "block":
            return "block", sides
        return ("codes", sides) if method == "aqlm" else None
    key, value = OPTIONS.get(word, ("", None))
    return (key, value) if key and word in offered else None


def _number(text: str) -> Any:
    from fractions import Fraction

    value = Fraction(text)
    return int(value) if value.denominator == 1 else value


def _examples(entry: dict[str, Any]) -> str:
    """How the scheme may be written: plain, and with all that it takes."""
    options, name = entry.get("options") or {}, str(entry["name"])
    more = ""
    if entry.get("continuous"):
        more = f"-{float(options.get('bits', 4)):.1f}"
    elif len(entry.get("bits") or []) > 1:
        more = f"-{float(options.get('bits', entry['bits'][0])):g}bit"
    if options.get("group") in (entry.get("group") or []):
        more += "-channel" if options["group"] == -1 else f"-g{options['group']}"
    words = [f"{name}-{word}" for word in entry.get("words") or []]
    return one_of(list(dict.fromkeys([name, name + more, *words])))


def _check(name: str, entry: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuse bits and groups that the method does not have."""
    where = f"--quant {name!r}"
    check_bits(entry, found.get("bits"), where)
    group, sizes = found.get("group"), entry.get("group") or []
    if group is not None and group not in sizes:
        shown = [str(size) for size in sizes if size != -1]
        remedy = f"Use a group of {one_of(shown)}" if shown else "Leave the group out"
        remedy += ", or channel for one a row." if -1 in sizes else "."
        what = "groups of a whole row" if group == -1 else f"groups of {group}"
        raise InputError(f"{where}: {entry['name']} has no {what}.", remedy)


def check_bits(entry: dict[str, Any], bits: Any, where: str) -> None:
    """Refuse bits that a scheme's entry does not list.

    Raises
    ------
    InputError
        With those that it does.
    """
    allowed = entry.get("bits") or []
    if bits is None or not allowed:
        return
    ends = f"{allowed[0]:g} to {allowed[-1]:g}"
    inside = allowed[0] <= bits <= allowed[-1] if entry.get("continuous") else bits in allowed
    if not inside:
        shown = ends if entry.get("continuous") else one_of([f"{b:g}" for b in allowed])
        raise InputError(f"{where}: {entry['name']} has no {float(bits):g} bits.", f"Use {shown} bits.")


def make(entry: dict[str, Any], found: dict[str, Any] | None = None, where: str = "") -> Scheme:
    """The scheme of a catalog entry with options of its own.

    Raises
    ------
    InputError
        If its method can't do what the options say; `where` tells whose they are.
    """
    given = dict(found or {})
    if "codes" in given:
        given["books"], given["code"] = given.pop("codes")
    options = {**(entry.get("options") or {}), **given}
    head = options.pop("head", HEAD)
    if isinstance(options.get("bits"), float):
        options["bits"] = _number(str(options["bits"]))
    wrong = trouble(entry["method"], {**options, "head": head} if entry.get("continuous") else options)
    if wrong is not None:
        told = f"{where}: " if where else ""
        raise InputError(f"{told}{entry['name']} has no {wrong[0]}.", wrong[1])
    scheme = Scheme(
        _label(entry, given, options, head),
        _chooser(entry, options, head),
        grade=str(entry.get("grade", "exact")),
        source=", ".join(entry.get("sources") or []),
    )
    scheme.entry = {**entry, "options": options}
    if entry.get("skips"):
        scheme.skips = int(options.get("group", 1))
    if entry["method"] == "gpt_oss":
        dense = {**entry, "method": "mx", "touches": ["linear"]}
        scheme.dense = _chooser(dense, {"bits": 4}, head)
    return scheme


def _label(entry: dict[str, Any], given: dict[str, Any], options: dict[str, Any], head: int) -> str:
    """The canonical name: bits and group where the entry offers a choice."""
    name, bits = str(entry["name"]), options.get("bits")
    if entry["method"] == "aqlm" and (options.get("books", 1), options.get("code", 16)) != (1, 16):
        name = f"aqlm-{options['books']}x{options['code']}"
    elif entry["method"] == "pack_quantized" and entry["name"] in ("w4a16", "w8a16"):
        name = f"w{bits}a16"
    elif entry.get("continuous"):
        name += f"-{float(bits or 0):.2f}"
    elif bits is not None and (given.get("bits") or not re.search(r"\d", name)):
        name += f"-{bits}bit" if str(bits) not in re.findall(r"\d+", name) else ""
    if entry.get("group") and "group" in options:
        name += f"-g{options['group']}" if options["group"] != -1 else "-channel"
    if options.get("strategy") == "block" and tuple(options.get("block", (128, 128))) != (128, 128):
        name += "-{}x{}".format(*options["block"])
    if given.get("symmetric") is False:
        name += "-asym"
    if given.get("zero_point") is False:
        name += "-sym"
    if given.get("double"):
        name += "-dq"
    if given.get("static"):
        name += "-static"
    return name + (f"-h{head}" if head != HEAD else "")


def _chooser(entry: dict[str, Any], options: dict[str, Any], head: int) -> Chooser:
    method, towers = entry["method"], bool(entry.get("towers"))
    touches, skips = set(entry.get("touches", TOUCHES)), entry.get("skips")
    bits = {**options, "bits": _head_bits(method, head)} if entry.get("continuous") else options

    def choose(module: Module) -> tuple[str, dict[str, Any]] | None:
        if module.kind not in touches or (module.component in TOWERS and not towers):
            return None
        columns = module.matrix.columns if module.matrix else 0
        if method == "mlx" and module.kind == "router":
            return None if columns % 64 else ("mlx", {"bits": 8, "group": 64})
        if skips and columns % int(options.get("group", 1)):
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
        raise InputError(f"--quant {name!r} mixes what no checkpoint does.", "Name one scheme.")

    def choose(module: Module) -> tuple[str, dict[str, Any]] | None:
        return (experts if module.kind == "expert" else rest).choose(module)

    made = Scheme(name, choose, grade=experts.grade, source=experts.source)
    made.entry, made.parts = experts.entry, (rest, experts)
    return made


def _unknown(name: str, catalog: Catalog) -> InputError:
    near = catalog.nearest("schemes", name)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return InputError(
        f"--quant {name!r} is not a known scheme.",
        f"{hint}llmcalc formats lists them; --bits N prices every weight alike.",
    )
