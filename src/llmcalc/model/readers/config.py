"""Read ``config.json``: a file, a folder with one, a dict, standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.inventory import Inventory

MAX_BYTES = 8 << 20
NOT_SHAPING = (
    "id2label",
    "label2id",
    "task_specific_params",
    "auto_map",
    "quantization_config",
    "quantization",
    "compression_config",
    "rope_parameters",
)
"""Objects whose members name classes, files or positions, or are read elsewhere."""

QUANTIZATION = ("quantization_config", "quantization", "compression_config")
BESIDE = "hf_quant_config.json"
"""Where NVIDIA's ModelOpt says how it quantized, in folders older than its key in config.json."""


def read_path(path: str, catalog: Catalog, assume: str | None = None) -> Inventory:
    """Read the configuration that a path leads to.

    Parameters
    ----------
    path : str
        A ``config.json``, a folder with one, or ``-`` for standard input.
    catalog : Catalog
        Where class defaults and ignored keys are.
    assume : str, optional
        Family to read it as, where its own `model_type` is unknown.

    Raises
    ------
    ConfigError
        If it can't be read, is not JSON, or does not describe a known model.
    """
    if not path or "\0" in path:
        raise ConfigError(
            f"--config {path[:80]!r} names no file.", "Give a config.json, or - for standard input."
        )
    if path == "-" and sys.stdin is None:
        raise ConfigError("There is no standard input: it is closed.", "Give the path of a config.json.")
    if path == "-":
        text, label, name = (
            _decode(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input"),
            "standard input",
            "stdin",
        )
    else:
        file = _file_of(path)
        text, label = _decode(_bytes_of(file), file), file
        folder = os.path.basename(os.path.dirname(os.path.abspath(file)))
        stem = os.path.splitext(os.path.basename(file))[0]
        name = folder if stem == "config" and folder else stem
    inventory = read_dict(_parse(text, label), catalog, label=label, name=name, assume=assume)
    beside = os.path.join(os.path.dirname(label), BESIDE) if path != "-" else ""
    if inventory.quantization is None and beside and os.path.isfile(beside):
        stated = _parse(_decode(_bytes_of(beside), beside), beside)
        own = stated.get("quantization")
        inventory.quantization = {"quant_method": "modelopt", **(own if isinstance(own, dict) else stated)}
    return inventory


def _file_of(path: str) -> str:
    if not os.path.isdir(path):
        return path
    inside = os.path.join(path, "config.json")
    if os.path.exists(inside):
        return inside
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.", "Check its permissions.") from None
    others = [name for name in names if name.endswith(".json")][:3]
    hint = f" (it has {', '.join(others)})" if others else ""
    raise ConfigError(f"{path} is a folder without a config.json{hint}.", "Give the path of a config.json.")


def _bytes_of(path: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(
                f"{path} is not a regular file.", "Give a config.json, or - for standard input."
            )
        with open(path, "rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}.", "Check the path and its permissions."
        ) from None


def _decode(data: bytes, label: str) -> str:
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{label} is larger than 64 MiB.", "A config.json is a small text file.")
    if not data.strip():
        raise ConfigError(f"{label} is empty.", "Give the model's config.json.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{label} is binary, not JSON text.", "Give the model's config.json.") from None


def _parse(text: str, label: str) -> dict[str, Any]:
    import json

    try:
        value = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{label} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            "Is the file complete? Give the model's config.json.",
        ) from None
    except RecursionError:
        raise ConfigError(f"{label} is nested too deeply.", "Give the model's config.json.") from None
    except ValueError:
        raise ConfigError(f"{label} holds a number of thousands of digits.", "Correct that number.") from None
    except _TwiceError as error:
        raise ConfigError(f"{label} states {error} twice.", "Keep one of them.") from None
    if not isinstance(value, dict):
        kind = {list: "a list", str: "text", type(None): "null", bool: "true or false"}.get(
            type(value), "a number"
        )
        raise ConfigError(f"{label} holds {kind}, not a JSON object.", "A config.json starts with {.")
    return value


class _TwiceError(Exception):
    """A key that stands twice in one object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1)[:60])
    return found


def read_dict(
    raw: Mapping[str, Any],
    catalog: Catalog,
    *,
    label: str = "the configuration",
    name: str = "config",
    assume: str | None = None,
    source: str = "config",
    title: str = "",
    trusted: bool = True,
    check_keys: bool = True,
) -> Inventory:
    """Read a configuration that is in memory already.

    Parameters
    ----------
    raw : mapping
        The configuration.
    catalog : Catalog
        Where class defaults and ignored keys are.
    label, name, title : str
        What to call it in errors, in JSON, and in a heading.
    assume : str, optional
        Family to read it as.
    source : str
        ``config`` or ``catalog``.
    trusted : bool
        Whether its windows, patterns and context are proven.
    check_keys : bool
        Whether to refuse keys that could shape memory and that the family does not know.

    Examples
    --------
    >>> llama = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
    ...          "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    ...          "vocab_size": 128256}
    >>> read_dict(llama, Catalog()).params
    8030261248
    """
    if not all(isinstance(key, str) for key in raw):
        raise ConfigError(f"{label} has keys that are not text.", "Give the model's config.json.")
    model_type = assume if assume is not None else raw.get("model_type")
    if assume is not None and not assume.strip():
        raise ConfigError("--assume names no family.", f"Use one of {', '.join(families.known())}.")
    if not isinstance(model_type, str) or not model_type:
        raise ConfigError(
            f"{label} does not say its model_type.", "Add it, or name the family: --assume llama."
        )
    if assume is None:
        model_type = _dispatched(raw, model_type)
    family = families.load(model_type, label, assumed=assume is not None)
    known = catalog.lookup("class_defaults", model_type) or {}
    config = Config(raw, label, known.get("defaults"), known.get("renames"), trusted=trusted)
    config.read |= {"model_type", "architectures"}
    try:
        groups = families.describe(family, config, catalog)
    except ConfigError as error:  # builders know the sizes, not whose they are
        if error.problem.startswith(label):
            raise
        raise ConfigError(f"{label}: {error.problem}", error.remedy, error.parts) from None
    inventory = Inventory(name, model_type, source, groups, title=title)
    text = config.main
    if hasattr(family, "streams"):
        inventory.streams = family.streams(config)
    inventory.origin = label
    inventory.context = _context(text)
    inventory.dtype = _dtype(config, text)
    inventory.split = families.split_units(family, text)
    inventory.defaulted, inventory.unproven = config.gather()
    if not trusted:
        inventory.unproven.setdefault("context", "the context limit comes from an unverified copy")
    _warn(inventory, config)
    unknown = _unknown_keys(config, model_type, catalog) if check_keys else []
    if unknown and assume is None:
        raise ConfigError(
            f"{label} has keys that could shape memory and that {model_type} does not know: "
            f"{', '.join(unknown[:8])}.",
            f"Remove them if they do not matter, or read it as the plain family: --assume {model_type}.",
        )
    if unknown:
        inventory.warnings.append(f"Read as {model_type}, passing over {', '.join(unknown[:8])}.")
    if assume is not None and (unknown or assume != raw.get("model_type")):
        inventory.grade = "assumed"
    elif source == "config" and _sizes(inventory.defaulted):
        inventory.grade = "derived"
    return inventory


def _sizes(defaulted: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in defaulted.items() if not isinstance(value, bool)}


def _dispatched(raw: Mapping[str, Any], model_type: str) -> str:
    """The family's name: a text model's own type around a nested text_config is its multimodal class.

    Ministral 3 says ``ministral3`` at the top, but is built as Mistral3ForConditionalGeneration.
    """
    named = raw.get("architectures")
    if not isinstance(raw.get("text_config"), dict) or not isinstance(named, list) or not named:
        return model_type
    stem = str(named[0]).partition("ForConditionalGeneration")[0]
    other = "".join(f"_{c.lower()}" if c.isupper() else c for c in stem).lstrip("_")
    known = families.known()
    if model_type.replace("-", "_") in known and other in known and other != model_type:
        return other if not hasattr(families.load(model_type, ""), "describe") else model_type
    return model_type


def _context(config: Config) -> int | None:
    """The longest sequence: the table of positions, or what YaRN stretches the original one to."""
    value = config.lookup("max_position_embeddings")
    if value is MISSING or value is None:
        return None
    limit = config._checked("max_position_embeddings", value)
    scaling = config.lookup("rope_scaling")
    if isinstance(scaling, dict) and scaling.get("rope_type", scaling.get("type")) == "yarn":
        original, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
        if isinstance(original, int) and isinstance(factor, (int, float)) and 1 <= factor <= 10**4:
            limit = max(limit, int(original * factor))
    return limit


def _dtype(*configs: Config) -> str | None:
    for config in configs:
        for key in ("torch_dtype", "dtype"):
            value = config.lookup(key)
            if isinstance(value, str) and value and value != "auto":
                return value.removeprefix("torch.")
    return None


FACTS = (
    "activation_function", "alibi", "attn_logit_softcapping", "attention_dropout", "attn_pdrop", "chunk_size",
    "embd_pdrop", "embed_dropout", "embedding_dropout", "final_logit_softcapping", "hidden_act",
    "hidden_activation", "hidden_dropout", "mamba_chunk_size", "mlp_hidden_act", "n_group", "norm_topk_prob",
    "resid_dropout", "resid_pdrop", "residual_dropout", "topk_group", "topk_method", "use_parallel_residual",
)  # fmt: skip
"""Keys that change no tensor and no cache, but what a layer's code does."""


def _warn(inventory: Inventory, config: Config) -> None:
    inventory.quantization = _quantization(config)
    inventory.rope = _rope(config.main)
    inventory.facts = _facts(config.main)
    inventory.state_dtype = _state_dtype(config.main)
    shaping = _sizes(inventory.defaulted)
    if shaping and inventory.source == "config":
        filled = ", ".join(f"{key} = {value}" for key, value in sorted(shaping.items()))
        inventory.warnings.append(f"Not in the configuration, taken from the class's defaults: {filled}.")


def _state_dtype(config: Config) -> str:
    """Precision of recurrent states, where the configuration names one that we know."""
    short = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    for key in ("mamba_ssm_cache_dtype", "mamba_ssm_dtype"):
        stated = config.lookup(key)
        if isinstance(stated, str) and stated in short:
            return short[stated]
    return ""


def _facts(config: Config) -> dict[str, Any]:
    """What the configuration says of how layers run, its class's defaults aside."""
    stated = {key: config.raw[key] for key in FACTS if key in config.raw}
    return {
        key: value
        for key, value in stated.items()
        if isinstance(value, (bool, int, float, str)) or value is None
    }


def _rope(config: Config) -> tuple[str, float]:
    """How rotary positions are scaled, and the share of a head that they turn."""
    kind, partial = "", config.lookup("partial_rotary_factor")
    if partial is MISSING:
        partial = config.lookup("rotary_pct")
    for key in ("rope_scaling", "rope_parameters"):
        stated = config.lookup(key)
        if isinstance(stated, dict):
            named = stated.get("rope_type", stated.get("type"))
            partial = stated.get("partial_rotary_factor", partial)
            if isinstance(named, str) and not kind:
                kind = {"su": "longrope"}.get(named, named)
    whole = isinstance(partial, bool) or not isinstance(partial, (int, float)) or not 0 < partial <= 1
    return kind, 1.0 if whole else float(partial)


def _quantization(config: Config) -> dict[str, Any] | None:
    """What the configuration says of quantization: Hugging Face's key, MLX's, or an older one."""
    for part in (config, config.main):
        for key in QUANTIZATION:
            stated = part.lookup(key)
            if stated is not MISSING and stated:
                found = dict(stated) if isinstance(stated, dict) else {"quant_method": str(stated)[:60]}
                experts = config.main.lookup("expert_dtype")
                return found if experts is MISSING else {**found, "expert_dtype": experts}
    return None


def _unknown_keys(config: Config, model_type: str, catalog: Catalog) -> list[str]:
    """Numbers and per-layer lists that nobody read: each may be a feature we do not know."""
    from fnmatch import fnmatchcase

    ignored = [
        *(catalog.lookup("config_keys", "any") or {}).get("keys", []),
        *(catalog.lookup("config_keys", model_type) or {}).get("keys", []),
    ]
    unknown = []
    for part in [config, *config.parts]:
        layers = part.lookup("num_hidden_layers")
        for key, value in _flat(part.raw, part.read):
            if _could_shape(value, layers) and not any(fnmatchcase(key, pattern) for pattern in ignored):
                unknown.append(f"{key} = {str(value)[:40]}")
    return sorted(unknown)


def _flat(raw: Mapping[str, Any], read: set[str]) -> Iterator[tuple[str, Any]]:
    """Keys that nobody read, those of nested objects included."""
    for key, value in raw.items():
        if key in read or key in NOT_SHAPING:
            continue
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", one) for name, one in value.items())
        else:
            yield key, value


def _could_shape(value: Any, layers: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, (int, float)):
        return value != 0
    return isinstance(value, list) and len(value) == layers
