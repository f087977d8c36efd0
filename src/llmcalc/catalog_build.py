"""Check the YAML that people edit, and compile it into what the installed program reads.

pydantic checks each entry; an error names file, entry and field. Imported only by the build hook,
by a source checkout whose YAML is newer, and when a user has catalogs of his own.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from typing import Any

import pydantic
import yaml

from llmcalc.catalog import COMPILED, MAGIC, fold, sources_of
from llmcalc.catalog_schemas import Entry, schema_of
from llmcalc.errors import CatalogError, did_you_mean

MAX_FILE = 32 << 20
USER_KINDS = ("gpus", "models", "formats", "schemes", "sources", "optimizers", "laws")


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
    checked: list[dict[str, Any]] = []
    wrong: list[str] = []
    for number, entry in enumerate(raw, 1):
        label = entry.get("name") if isinstance(entry, dict) else None
        where = f"{path}, {kind} entry {label if isinstance(label, str) else f'number {number}'}"
        if not isinstance(entry, dict):
            wrong.append(f"{where}: not a mapping of fields")
            continue
        schema = schema_of(kind, entry)
        try:
            schema.model_validate(entry)
        except pydantic.ValidationError as error:
            wrong.extend(f"{where}, {_reason(problem, schema)}" for problem in error.errors())
            continue
        if kind == "schemes":
            found = scheme_problems(entry)
            wrong.extend(f"{where}, field {problem}" for problem in found)
            if found:
                continue
        checked.append({key: value for key, value in entry.items() if value is not None})
    if wrong:
        raise CatalogError("\n".join(wrong[:12]), "Mend the fields named; docs/catalogs.md lists them all.")
    return checked


def scheme_problems(entry: dict[str, Any]) -> list[str]:
    """What a scheme's method can't do of its fields, each with the field's name."""
    import inspect

    from llmcalc.precision.checks import trouble
    from llmcalc.precision.mixtures import DEFAULTS
    from llmcalc.precision.named import HEAD, UNQUANTIZED
    from llmcalc.precision.packing import METHODS

    name, method, options = str(entry["name"]), entry["method"], entry.get("options") or {}
    wrong = []
    for field, word in [("name", name), *(("aliases", alias) for alias in entry.get("aliases") or [])]:
        if word.lower() in UNQUANTIZED:
            wrong.append(f"{field}: {word!r} stands for unquantized weights")
    if method == "gguf":
        if name.lower().removeprefix("gguf-") not in DEFAULTS:
            known = ", ".join(sorted(DEFAULTS))
            wrong.append(f"name: {name!r} is no file type of llama.cpp; those are {known}")
        if entry.get("nominal") is None:
            wrong.append("nominal: a file type needs its bits per weight")
        return wrong
    if method not in METHODS:
        near = did_you_mean(method, METHODS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return [*wrong, f"method: {method!r} is no packer{hint}; those are {', '.join(METHODS)}, or gguf"]
    known_options = {*inspect.signature(METHODS[method]).parameters, "head"} - {"m", "_"}
    for key, value in options.items():
        if key not in known_options:
            near = did_you_mean(key, known_options, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            wrong.append(f"options.{key}: unknown to {method}{hint}")
            continue
        shared = {"mode": options["mode"]} if "mode" in options and key != "mode" else {}
        found = trouble(method, {**shared, key: _exact(value)})
        if found is not None:
            wrong.append(f"options.{key}: {method} has no {found[0]}. {found[1]}")
    for field, key in (("bits", "bits"), ("group", "group")):
        for value in entry.get(field) or []:
            found = trouble(method, {**options, key: _exact(value), "head": HEAD})
            if found is not None and not any(line.startswith("options.") for line in wrong):
                wrong.append(f"{field}: {method} has no {found[0]}. {found[1]}")
    return wrong


def _exact(value: Any) -> Any:
    """A number as packers take it: whole where it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
    date = str(document.get("date") or document.get("source") or "")
    for other in more:
        added = load_yaml(other)
        document[kind] += added[kind]
        date = max(date, str(added.get("date") or ""))
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
    if kind == "laws":
        from llmcalc.scaling.index import answers_table

        _write("law_answers", date, "\n".join(["#", *answers_table(entries)]) + "\n")
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
        "runs",
        "optimizers",
        "laws",
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
