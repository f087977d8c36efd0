"""Schemes that a configuration states of its checkpoint: ``quantization_config`` and its kin."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmcalc.errors import ConfigError, InputError, LlmcalcError, one_of
from llmcalc.model.inventory import FLOATS
from llmcalc.precision.checks import MLX_MODES
from llmcalc.precision.grouped import compressed, modelopt
from llmcalc.precision.named import check_bits, make
from llmcalc.precision.overrides import SKIP, Overrides
from llmcalc.precision.patterns import Names
from llmcalc.precision.scheme import Module, Scheme
from llmcalc.precision.stated import (
    IGNORED,
    Choice,
    Stated,
    checked,
    entry_of,
    finished,
    flag_of,
    integer_of,
    left_alone,
    object_of,
    patterns_of,
)

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog
    from llmcalc.model.inventory import Inventory


def apply(inventory: Inventory, stated: Stated, catalog: Catalog) -> Inventory:
    """The inventory stored as stated; with the reason kept where that can't be told."""
    made = copy.copy(inventory)
    entry = catalog.lookup("formats", inventory.dtype) if inventory.dtype else None
    model = str(entry["name"]) if entry and entry["name"] in FLOATS else "bf16"
    try:
        scheme = declared(stated, catalog)
        stored = scheme.apply(inventory, model)
    except LlmcalcError as error:
        made.quantization = {**stated, "refused": (error.problem, error.remedy)}
        return made
    unused = list(scheme.unmatched())
    if unused and scheme.name != "none":
        told = ", ".join(one[:60] for one in unused[:3]) + (
            f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        )
        scheme.notes.append(f"Patterns of the quantization's lists match no tensor: {told}.")
    stored.quantization = {**stated, "applied": scheme}
    return stored


def declared(stated: Stated, catalog: Catalog) -> Scheme:
    """The scheme that a configuration states.

    Raises
    ------
    ConfigError
        If the method is unknown, or its numbers contradict each other.
    """
    method = str(stated.get("quant_method") or _guessed(stated)).lower().replace("_", "-")
    reader = READERS.get(method)
    if reader is not None:
        return reader(stated, catalog)
    entry = catalog.lookup("schemes", method)
    if entry is None or entry["method"] == "gguf":
        raise ConfigError(
            f"The checkpoint is quantized by {method[:40]!r}, which is not known.",
            "Name what it comes to with --quant, or --quant none for unquantized weights.",
        )
    return _named(entry, stated, {})


def _guessed(stated: Stated) -> str:
    """The method of a configuration that does not name it."""
    if "quant_algo" in stated or "quantized_layers" in stated:
        return "modelopt"
    if "config_groups" in stated:
        return "compressed-tensors"
    if "bits" in stated and "group_size" in stated:
        return "mlx"
    return "unnamed"


def _named(entry: dict[str, Any], stated: Stated, found: dict[str, Any]) -> Scheme:
    """A catalog scheme with the options and exceptions of a configuration."""
    ignored, overrides = patterns_of(stated), Overrides(stated)
    try:
        for one in (found, *(own for _, _, own in overrides.rules), *overrides.names.values()):
            check_bits(entry, one.get("bits"), "quantization")
        plain = make(entry, {key: value for key, value in found.items() if value is not None}, "quantization")
    except InputError as error:
        raise ConfigError(error.problem, error.remedy) from None

    def choose(module: Module) -> Choice | None:
        skipped = module.name in ignored
        choice = None if skipped or left_alone(module) else plain.choose(module)
        own = overrides.find(module.name) if overrides and choice is not None else None
        if own is None or choice is None:
            return choice
        given = {key: value for key, value in own.items() if value is not None}
        return None if own is SKIP else checked((choice[0], {**choice[1], **given}))

    return finished(plain.name, choose, plain, ignored, overrides)


def _gptq(stated: Stated, catalog: Catalog) -> Scheme:
    method = "awq" if "awq" in str(stated.get("packing_format", "")) else "gptq"
    found = {
        "bits": integer_of(stated, "bits", "w_bit", default=4),
        "group": integer_of(stated, "group_size", "q_group_size", default=128),
    }
    entry = dict(entry_of(catalog, method))
    if flag_of(stated, "lm_head"):
        entry["touches"] = [*entry["touches"], "head"]
    return _named(entry, stated, found)


def _awq(stated: Stated, catalog: Catalog) -> Scheme:
    found: dict[str, Any] = {
        "bits": integer_of(stated, "bits", "w_bit", default=4),
        "group": integer_of(stated, "group_size", "q_group_size", default=128),
    }
    if not flag_of(stated, "zero_point", default=True):
        found["zero_point"] = False
    return _named(entry_of(catalog, "awq"), stated, found)


def _bitsandbytes(stated: Stated, catalog: Catalog) -> Scheme:
    four, eight = (flag_of(stated, key, f"_{key}") for key in ("load_in_4bit", "load_in_8bit"))
    if four and eight:
        raise ConfigError("quantization: load_in_4bit and load_in_8bit are both true.", "Keep one of them.")
    if four:
        kind = str(stated.get("bnb_4bit_quant_type", "fp4")).lower()
        if kind not in ("nf4", "fp4"):
            raise ConfigError(f"quantization: bnb_4bit_quant_type is {kind[:40]!r}.", "Use nf4 or fp4.")
        name = kind + ("-dq" if flag_of(stated, "bnb_4bit_use_double_quant") else "")
        return _named(entry_of(catalog, name), stated, {})
    if eight:
        return _named(entry_of(catalog, "int8"), stated, {})
    raise ConfigError(
        "quantization: bitsandbytes with neither load_in_4bit nor load_in_8bit.", "Set the one that is meant."
    )


def _fp8(stated: Stated, catalog: Catalog) -> Scheme:
    if stated.get("quantized_layers") or stated.get("moe_quant_algo"):
        # ModelOpt quantizes some layers of a checkpoint anew; its list of what it ignores is about those.
        base = {key: value for key, value in stated.items() if key not in IGNORED}
        rest = _blocks(base, catalog) if stated.get("weight_block_size") else None
        return modelopt(stated, catalog, rest)
    if stated.get("weight_block_size") is not None:
        return _blocks(stated, catalog)
    static = stated.get("activation_scheme") == "static"
    return _named(entry_of(catalog, "fp8-static" if static else "fp8"), stated, {"dialect": "transformers"})


def _blocks(stated: Stated, catalog: Catalog) -> Scheme:
    """FP8 in blocks as DeepSeek stores it; experts in FP4 since V4."""
    block = stated.get("weight_block_size")
    sizes = block if isinstance(block, (list, tuple)) else ()
    if len(sizes) != 2 or not all(type(side) is int and side > 0 for side in sizes):
        raise ConfigError(f"quantization: weight_block_size is {str(block)[:40]!r}.", "Use [128, 128].")
    scale = "e8m0" if stated.get("expert_dtype") and stated.get("scale_fmt") == "ue8m0" else None
    plain = _named(entry_of(catalog, "fp8-block"), stated, {"block": tuple(sizes), "scale": scale})
    if stated.get("expert_dtype") != "fp4":
        return plain

    def choose(module: Module) -> Choice | None:
        if module.kind == "expert":
            return "mx", {"bits": 4, "names": ("weight", "scale")}
        if module.role == "projection":  # of the prediction module: quantized since V4
            return "fp8", {"strategy": "block", "block": tuple(sizes), "scale": scale or "fp32"}
        return plain.choose(module)

    return finished("fp8-block + mxfp4 experts", choose, plain, patterns_of(stated))


def _fbgemm(stated: Stated, catalog: Catalog) -> Scheme:
    return _named(entry_of(catalog, "fbgemm-fp8"), stated, {})


def _mxfp4(stated: Stated, catalog: Catalog) -> Scheme:
    return _named(entry_of(catalog, "mxfp4"), stated, {})


def _mlx(stated: Stated, catalog: Catalog) -> Scheme:
    """MLX: bits and group for all modules, and exceptions under their names."""
    modes = {"affine": "mlx", "mxfp4": "mlx-mxfp4", "nvfp4": "mlx-nvfp4", "mxfp8": "mlx-mxfp8"}
    mode = str(stated.get("mode") or "affine")
    if mode not in modes:
        raise ConfigError(f"quantization: mode is {mode[:40]!r}.", f"Use {one_of(list(modes))}.")
    entry = entry_of(catalog, modes[mode])
    group = integer_of(stated, "group_size", default=entry["options"]["group"])
    found = {"bits": integer_of(stated, "bits", default=entry["options"]["bits"]), "group": group}
    checked(("mlx", {**entry["options"], **found}))
    plain = make(entry, found)
    exceptions = {name: value for name, value in stated.items() if isinstance(value, dict) or value is False}
    targets = Names(exceptions)

    own: dict[str, Choice] = {
        name: _exception(name, value) for name, value in exceptions.items() if value is not False
    }

    def choose(module: Module) -> Choice | None:
        usual, name = plain.choose(module), targets.find(*mlx_names(module))
        return usual if name is None or usual is None else own.get(name)

    return finished(plain.name, choose, plain, targets)


def mlx_names(module: Module) -> list[str]:
    """Names of a module in MLX, which stacks experts and splits fused ones."""
    before, experts, _ = module.name.partition(".experts.")
    if not experts or module.kind != "expert":
        return [module.name]
    parts = [part for part in ("gate", "up", "down") if part in module.role.split("_")]
    return [f"{before}.{stack}.{part}_proj" for stack in ("switch_mlp", "experts") for part in parts]


def _exception(name: str, own: Stated) -> Choice:
    """What an MLX configuration says of one module."""
    mode, found = str(own.get("mode") or "affine"), MLX_MODES.get(str(own.get("mode") or "affine"))
    if found is None:
        raise ConfigError(
            f"quantization: mode of {name[:60]} is {mode[:40]!r}.", f"Use {one_of(list(MLX_MODES))}."
        )
    widths, sizes = found
    bits = integer_of(own, "bits", default=4 if 4 in widths else widths[0])
    group = integer_of(own, "group_size", default=64 if 64 in sizes else sizes[0])
    return checked(("mlx", {"bits": bits, "group": group, "mode": mode}), f"quantization of {name[:60]}")


def _hqq(stated: Stated, catalog: Catalog) -> Scheme:
    own, what = stated, "nbits: 4, group_size: 64"
    for key in ("quant_config", "weight_quant_params"):
        if key in own:
            own = object_of(own, key, what)
    found = {"bits": integer_of(own, "nbits", default=4), "group": integer_of(own, "group_size", default=64)}
    return _named(entry_of(catalog, "hqq"), stated, found)


def _quanto(stated: Stated, catalog: Catalog) -> Scheme:
    kind = str(stated.get("weights", "int8")).lower()
    names = {"int8": "quanto-int8", "int4": "quanto", "int2": "quanto-int2", "float8": "quanto-fp8"}
    if kind not in names:
        raise ConfigError(f"quantization: weights of {kind[:40]!r}.", f"Use {', '.join(names)}.")
    return _named(entry_of(catalog, names[kind]), stated, {})


def _torchao(stated: Stated, catalog: Catalog) -> Scheme:
    kind = stated.get("quant_type")
    if isinstance(kind, dict):
        inner: Any = next(iter(kind.values()), {})
        inner = inner if isinstance(inner, dict) else {"_type": inner}
        data = object_of(inner, "_data", "group_size: 128") if "_data" in inner else {}
        group, kind = integer_of(data, "group_size"), inner.get("_type", "")
    else:
        own = stated.get("quant_type_kwargs")
        group = integer_of(
            object_of(stated, "quant_type_kwargs", "group_size: 128") if own else {}, "group_size"
        )
    word = str(kind).lower()[:80]
    name = "torchao-int4" if "int4" in word else "torchao-fp8" if "float8" in word else "torchao-int8"
    if not any(part in word for part in ("int4", "int8", "float8")):
        raise ConfigError(f"quantization: quant_type {word[:40]!r} is not known.", "Name it with --quant.")
    return _named(entry_of(catalog, name), stated, {"group": group} if name == "torchao-int4" else {})


def _aqlm(stated: Stated, catalog: Catalog) -> Scheme:
    found = {
        "books": integer_of(stated, "num_codebooks", default=1),
        "code": integer_of(stated, "nbits_per_codebook", default=16),
        "group": integer_of(stated, "in_group_size", default=8),
    }
    return _named(entry_of(catalog, "aqlm"), stated, found)


def _exllama(stated: Stated, catalog: Catalog) -> Scheme:
    from fractions import Fraction

    bits, head = stated.get("bits", 4), integer_of(stated, "head_bits", "lm_head_bits")
    if isinstance(bits, bool) or not isinstance(bits, (int, float)) or not 1 <= bits <= 8:
        raise ConfigError(f"quantization: bits is {str(bits)[:40]!r}.", "Use a number from 1 to 8.")
    name = str(stated.get("quant_method")).lower()
    return _named(entry_of(catalog, name), stated, {"bits": Fraction(str(bits)), "head": head})


READERS: dict[str, Callable[[Stated, Catalog], Scheme]] = {
    "gptq": _gptq, "auto-round": _gptq, "intel/auto-round": _gptq, "awq": _awq, "bitsandbytes": _bitsandbytes,
    "fp8": _fp8, "fbgemm-fp8": _fbgemm, "mxfp4": _mxfp4, "compressed-tensors": compressed,
    "modelopt": modelopt, "mlx": _mlx, "hqq": _hqq, "quanto": _quanto, "torchao": _torchao, "aqlm": _aqlm,
    "exl2": _exllama, "exl3": _exllama,
}  # fmt: skip
"""Readers by `quant_method`; methods with nothing to say but their name go by the catalog."""
