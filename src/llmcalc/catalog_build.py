"""Check the YAML that people edit, and compile it into what the installed program reads.

pydantic checks each entry; an error names file, entry and field. Imported only by the build hook,
by a source checkout whose YAML is newer, and when a user has catalogs of his own.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from typing import Any, Literal

import pydantic
import yaml

from llmcalc.catalog import COMPILED, MAGIC, fold, sources_of
from llmcalc.errors import CatalogError, did_you_mean

MAX_FILE = 32 << 20
USER_KINDS = ("gpus", "models", "formats", "schemes", "sources")


class Entry(pydantic.BaseModel):
    """What all catalog entries share: a name, aliases, no unknown keys."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    name: str = pydantic.Field(min_length=1, max_length=120)
    aliases: list[str] = []
    note: str | None = None


Positive = pydantic.confloat(gt=0, allow_inf_nan=False)


class Gpu(Entry):
    """One accelerator: marketed, driver-reported and runtime memory apart."""

    vendor: str
    kind: Literal["gpu", "soc", "cpu", "tpu", "npu", "accelerator"] = "gpu"
    architecture: str | None = None
    compute_capability: str | None = None
    memory_gb: float | None = pydantic.Field(None, gt=0, le=1e6)
    memory_type: str | None = None
    memory_mib_driver: float | None = pydantic.Field(None, gt=0, le=1e9)
    memory_mib_driver_source: str | list[str] | None = None
    memory_mib_runtime: float | None = pydantic.Field(None, gt=0, le=1e9)
    memory_mib_runtime_source: str | list[str] | None = None
    working_set_gib: float | None = pydantic.Field(None, gt=0, le=1e6)
    working_set_source: str | list[str] | None = None
    usable_gib: float | None = pydantic.Field(None, gt=0, le=1e6)
    usable_low_gib: float | None = pydantic.Field(None, gt=0, le=1e6)
    usable_high_gib: float | None = pydantic.Field(None, gt=0, le=1e6)
    usable_source: str | None = None
    bandwidth_gb_s: float | None = pydantic.Field(None, gt=0)
    tflops_dense: dict[str, float] | None = None
    achievable: Any = None
    interconnect: str | None = None
    scale_up_domain: int | None = pydantic.Field(None, ge=1)
    tdp_w: float | None = pydantic.Field(None, gt=0)
    released: str | None = None
    price_usd_h: float | None = pydantic.Field(None, gt=0)
    confidence: Literal["verified", "single-source", "medium", "low", "derived", "user"] = "user"
    sources: dict[str, Any] = {}
    flags: list[str] = []
    notes: str | None = None
    popular: bool = False


class Model(Entry):
    """One model: names, where it comes from, and the configuration fields themselves."""

    hf: str | None = None
    organisation: str | None = None
    licence: str | None = None
    released: str | None = None
    context: int | None = pydantic.Field(None, gt=0)
    proven: Literal["all", "shapes"] = "all"
    stored_params: int | None = pydantic.Field(None, gt=0)
    stored_note: str | None = None
    sources: list[str] = []
    config: dict[str, Any]


class Format(Entry):
    """One number format: elements and bytes of a block."""

    elements: int = pydantic.Field(gt=0)
    bytes: int = pydantic.Field(gt=0)
    weights: bool = False
    kv: bool = False
    head_bytes: int = pydantic.Field(0, ge=0, le=1024)
    residual: int = pydantic.Field(0, ge=0, le=1 << 20)
    sources: list[str] = []


class Scheme(Entry):
    """One quantization scheme: how it stores a matrix, and which matrices it touches."""

    method: str
    options: dict[str, Any] = {}
    bits: list[float] = []
    group: list[int] = []
    touches: list[Literal["linear", "expert", "head", "embedding", "router"]] = []
    towers: bool = False
    nominal: float | None = pydantic.Field(None, gt=0, le=64)
    hardware: str | None = None
    runtime: str | None = None
    grade: Literal["exact", "derived", "assumed"] = "exact"
    sources: list[str] = []


class Source(Entry):
    """One publication, package or log that figures come from."""

    title: str
    kind: Literal["paper", "package", "repository", "documentation", "log", "vendor", "standard"]
    reference: str
    read: str | None = None


class Measurement(Entry):
    """One run of an engine: what it was told, and what it printed."""

    engine: Literal["llama.cpp"]
    program: str
    build: str
    era: Literal["2023", "2024", "2025", "2026", "ik"]
    date: str
    model: str
    source: str
    options: dict[str, Any]
    gpus: int = pydantic.Field(ge=0, le=1024)
    devices: str | None = None
    measured: dict[
        Literal["weights", "kv_cache", "state", "activations", "host_activations", "scratch"],
        float | list[float],
    ]


SCHEMAS: dict[str, type[Entry]] = {
    "gpus": Gpu, "models": Model, "formats": Format, "schemes": Scheme, "sources": Source,
    "measurements": Measurement,
}  # fmt: skip


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML, with dates left as text and duplicate keys refused."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def _unique_mapping(loader: Any, node: Any) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, (str, int, float, bool)) or key in result:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is not a plain word or stands twice", key_node.start_mark
            )
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def load_yaml(path: str) -> Any:
    """Read one YAML file; refuse what is no regular, readable, well-formed text file."""
    try:
        if not path:
            raise CatalogError("--catalog '' names no file.", "Give the path of a YAML catalog.")
        if "\0" in path or not os.path.exists(path):
            raise CatalogError(f"{path[:200]!r} does not exist.", "Give the path of a YAML catalog.")
        if not os.path.isfile(path):
            raise CatalogError(f"{path} is not a regular file.", "Give the path of a YAML catalog.")
        if os.path.getsize(path) > MAX_FILE:
            raise CatalogError(f"{path} is larger than 32 MiB.", "A catalog is a small YAML file.")
        with open(path, encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_Loader)
    except OSError as error:
        raise CatalogError(f"{path} can't be read: {error.strerror}.", "Check the path.") from None
    except UnicodeDecodeError:
        raise CatalogError(f"{path} is not UTF-8 text.", "A catalog is a YAML file.") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise CatalogError(f"{path} is not valid YAML: {reason}.", "Mend the line named.") from None
    except (RecursionError, ValueError) as error:
        raise CatalogError(
            f"{path} can't be parsed: {error}.", "A catalog is a plain list of entries."
        ) from None


def check_entries(path: str, kind: str, raw: Any) -> list[dict[str, Any]]:
    """Check entries against their schema.

    Raises
    ------
    CatalogError
        Naming file, entry and field of everything that is wrong.
    """
    if kind == "sources" and isinstance(raw, dict):
        raw = [{"name": name, **entry} if isinstance(entry, dict) else entry for name, entry in raw.items()]
    if not isinstance(raw, list):
        raise CatalogError(
            f"{path}: {kind} must be a list of entries.", f"Write {kind}: followed by - name: ..."
        )
    schema = SCHEMAS[kind]
    checked: list[dict[str, Any]] = []
    wrong: list[str] = []
    for number, entry in enumerate(raw, 1):
        label = entry.get("name") if isinstance(entry, dict) else None
        where = f"{path}, {kind} entry {label if isinstance(label, str) else f'number {number}'}"
        if not isinstance(entry, dict):
            wrong.append(f"{where}: not a mapping of fields")
            continue
        try:
            schema.model_validate(entry)
        except pydantic.ValidationError as error:
            wrong.extend(f"{where}, {_reason(problem, schema)}" for problem in error.errors())
            continue
        checked.append({key: value for key, value in entry.items() if value is not None})
    if wrong:
        raise CatalogError("\n".join(wrong[:12]), "Mend the fields named; docs/catalogs.md lists them all.")
    return checked


def _reason(problem: Any, schema: type[Entry]) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "entry"
    if problem["type"] == "extra_forbidden":
        near = did_you_mean(str(problem["loc"][0]), schema.model_fields, 1)
        return f"field {field}: unknown" + (f" (did you mean {near[0]}?)" if near else "")
    return f"field {field}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def read_user_file(path: str) -> dict[str, list[dict[str, Any]]]:
    """Read a user's own catalog: any of ``gpus``, ``models``, ``formats``, ``schemes``, ``sources``."""
    document = load_yaml(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise CatalogError(f"{path} holds no catalog.", "Its top keys are gpus:, models: or formats:.")
    found = {}
    for kind, raw in document.items():
        if kind in ("date", "ambiguous"):
            continue
        if kind not in USER_KINDS:
            near = did_you_mean(str(kind), USER_KINDS, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise CatalogError(f"{path}: unknown key {kind!r}{hint}.", f"Use {', '.join(USER_KINDS)}.")
        found[kind] = check_entries(path, str(kind), raw)
    return found


def names_of(kind: str, entry: dict[str, Any]) -> list[str]:
    """All words under which an entry can be looked up, the name first."""
    names = [str(entry["name"]), *map(str, entry.get("aliases", []))]
    if entry.get("hf"):
        names.append(str(entry["hf"]))
    return list(dict.fromkeys(names))


def compile_file(kind: str, wanted: str | None = None) -> str:
    """Compile one YAML file of the source checkout, with the tables derived from it.

    Returns
    -------
    str
        Path of the compiled catalog (or of the derived table `wanted`).
    """
    path, *more = sources_of(kind)
    document = load_yaml(path)
    for other in more:
        document[kind] += load_yaml(other)[kind]
    date = str(document.get("date") or document.get("source") or "")
    if kind == "class_defaults":
        entries = [{"name": name, **entry} for name, entry in document["classes"].items()]
        keys = {entry["name"]: [entry["name"]] for entry in entries}
    elif kind == "config_keys":
        entries = [{"name": name, "keys": keys} for name, keys in document["ignored"].items()]
        keys = {entry["name"]: [entry["name"]] for entry in entries}
    else:
        entries = check_entries(path, kind, document[kind])
        keys = {str(entry["name"]): names_of(kind, entry) for entry in entries}
    _write(kind, date, _catalog_text(path, kind, date, entries, keys, document.get("ambiguous") or {}))
    if kind == "gpus":
        from llmcalc.hardware import sizes_table

        _write("gpu_sizes", date, "\n".join(["#", *sizes_table(entries)]) + "\n")
    if kind == "models":
        from llmcalc.memory.spans import spans_table

        _write("model_spans", date, "\n".join(["#", *spans_table(entries)]) + "\n")
    return os.path.join(COMPILED, f"{wanted or kind}.cat")


def compile_all() -> None:
    """Compile every catalog, the ones that others need first."""
    for kind in (
        "config_keys",
        "class_defaults",
        "formats",
        "schemes",
        "sources",
        "gpus",
        "models",
        "measurements",
    ):
        compile_file(kind)


def _catalog_text(
    path: str, kind: str, date: str, entries: list[dict[str, Any]], keys: dict[str, list[str]],
    ambiguous: dict[str, list[str]],
) -> str:  # fmt: skip
    index: dict[str, str] = {}
    owner: dict[str, str] = {}
    folded: dict[str, dict[str, str]] = {}
    offset = 0
    data = []
    for entry in entries:
        name, line = str(entry["name"]), _literal(entry)
        place = f"{offset} {len(line.encode())}"
        for word in keys[name]:
            exact = word.lower()
            if owner.setdefault(exact, name) != name:
                raise CatalogError(
                    f"{path}: {word!r} stands for both {owner[exact]!r} and {name!r}.",
                    "Give the word to one of them, or list it under ambiguous:.",
                )
            index[exact] = place
            folded.setdefault(fold(word), {})[name] = place
        data.append(line)
        offset += len(line.encode()) + 1
    for key, places in folded.items():
        if (
            key not in index
        ):  # "opt-13b" and "opt-1.3b" fold alike: only their exact spellings tell them apart
            index[key] = next(iter(places.values())) if len(places) == 1 else "?" + "|".join(places)
    for word, names in ambiguous.items():
        for key in {str(word).lower(), fold(str(word))}:
            if key in index:
                raise CatalogError(f"{path}: {word!r} is both a name and ambiguous.", "Keep one of them.")
            index[key] = "?" + "|".join(names)
    block = "\n" + "".join(f"{key}\t{place}\n" for key, place in index.items())
    day = date.replace("|", " ").replace("\n", " ")
    head = f"{MAGIC}|{kind}|{day}|{len(block.encode())}\n"
    return head + block + "\n".join(data) + "\n"


def _literal(value: Any) -> str:
    """A Python literal on one line; refuses what literal_eval would not read back."""
    text = repr(value)
    if "inf" in text or "nan" in text:
        text = re.sub(r"(?<![\w'])-?inf(?![\w'])", "1e999", text)
    return text


def _write(name: str, date: str, text: str) -> None:
    os.makedirs(COMPILED, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=COMPILED, prefix=f".{name}")
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
    os.chmod(temporary, 0o644)
    os.replace(temporary, os.path.join(COMPILED, f"{name}.cat"))


def unresolved_sources(entries: Iterable[dict[str, Any]], known: Iterable[str]) -> list[str]:
    """Source ids that no entry of ``sources.yaml`` explains."""
    names = set(known)
    missing = []
    for entry in entries:
        cited = entry.get("sources", [])
        for text in cited.values() if isinstance(cited, dict) else cited:
            if (
                isinstance(text, str)
                and " " not in text.partition(":")[0]
                and text.partition(":")[0] not in names
            ):
                missing.append(f"{entry['name']}: {text}")
    return missing
