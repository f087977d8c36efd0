"""The public functions: read a model, resolve a scenario, estimate, attach capacity and verdict."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, InputError, UnknownNameError
from llmcalc.estimate import INFERENCE_PHASES, Item, find_peak
from llmcalc.formula import Quantity, is_array
from llmcalc.hardware import Device, Placement, place, smallest_cards
from llmcalc.memory import inference
from llmcalc.model.inventory import Inventory
from llmcalc.model.readers.count import read_count
from llmcalc.report import Call, Report, Reports
from llmcalc.scenario import Scenario, resolve
from llmcalc.units import parse_bits, parse_decimal, whole_or_fraction

__all__ = ["model", "params", "vram"]

ModelLike = Any
"""An `Inventory`, a catalog name, alias or Hugging Face id, a path, a count such as ``13b``, or a dict."""

HEADERS = (".gguf", ".safetensors", ".safetensors.index.json", ".bin", ".pt", ".pth")


def _catalog(files: str | Sequence[str] | Catalog | None) -> Catalog:
    if isinstance(files, Catalog):
        return files
    return Catalog([files] if isinstance(files, str) else list(files or ()))


def model(source: ModelLike, *, assume: str | None = None, catalog: Any = None) -> Inventory:
    """Read a model into its inventory.

    Parameters
    ----------
    source : str, dict, int or Inventory
        In this order: an existing path (``config.json`` or a folder with one), a catalog name, alias
        or Hugging Face id, a count such as ``13b``; or the dict of a configuration; ``-`` is
        standard input.
    assume : str, optional
        Family to read a configuration as, where its `model_type` is unknown.
    catalog : str or sequence of str, optional
        YAML files with models and GPUs of your own.

    Returns
    -------
    Inventory
        With ``params``, ``active_params``, ``stored_params``, ``tensors`` and ``caches``.

    Raises
    ------
    UnknownNameError, ConfigError, InputError
        With the remedy.

    Examples
    --------
    >>> model("llama-3.1-8b").params
    8030261248
    """
    if isinstance(source, Inventory):
        return source
    book = _catalog(catalog)
    if isinstance(source, Mapping):
        from llmcalc.model.readers.config import read_dict

        return read_dict(source, book, assume=assume)
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str):
        return read_count(source)
    return _named(source, book, assume)


def _named(source: str, book: Catalog, assume: str | None) -> Inventory:
    """Read a path, a name or a count."""
    text = source.strip()
    if not text:
        raise InputError("The model's name is empty.", "Name one, such as llama-3.1-8b, a config.json or 13b.")
    if "\0" not in text and (text == "-" or os.path.exists(text)):
        if text.lower().endswith(HEADERS):
            raise ConfigError(
                f"{text}: headers of weight files are not read.", "Give the config.json that lies beside it."
            )
        from llmcalc.model.readers.config import read_path

        return read_path(text, book, assume)
    entry = book.lookup("models", text)
    if entry is not None:
        from llmcalc.model.readers.catalog import read_entry

        return read_entry(entry, book)
    if _is_count(text):
        return read_count(text)
    if text.endswith(".json") or text.startswith((".", "/", "~")) or os.sep in text and text.count("/") != 1:
        raise ConfigError(f"{text} does not exist.", "Check the path of the config.json.")
    near = book.nearest("models", text)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UnknownNameError(
        f"There is no model {text[:80]!r} in the catalog, no file of that name, and it is no parameter count.",
        f"{hint}llmcalc models --search WORD lists models; a config.json or a count such as 13b does too.",
    )


def _is_count(text: str) -> bool:
    return parse_decimal(text.lower().rstrip("kmbgtq")) is not None


def vram(
    model: ModelLike = None,
    *,
    params: Any = None,
    config: Any = None,
    dtype: str | None = None,
    quant: str | None = None,
    bits: Any = None,
    overhead: Any = None,
    context: Any = None,
    max_model_len: Any = None,
    sequences: Any = 1,
    prompt: Any = None,
    output: Any = None,
    kv_dtype: str | None = None,
    kv_dtype_k: str | None = None,
    kv_dtype_v: str | None = None,
    engine: str | None = "none",
    gpu: Any = None,
    reserve: Any = 0,
    tp: Any = None,
    pp: Any = None,
    dp: Any = None,
    allow_overlong: bool = False,
    assume: str | None = None,
    catalog: Any = None,
) -> Report | Reports:
    """Memory of a model at inference: weights, KV cache, state and runtime, per GPU at the peak.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory
        The model (one of the three): anything `llmcalc.model` takes, a count, a configuration.
    dtype : str, optional
        Dtype of unquantized weights; the checkpoint's own, else bf16 (assumed).
    bits : number, optional
        Bits of every parameter, graded assumed. [bit]
    overhead : number, optional
        Factor of the rule of thumb, for a bare count only; 1.2. [-]
    context, max_model_len : int, str or ndarray, optional
        Tokens of one sequence; the smaller of the model's limit and 8,192. [tokens]
    sequences : int or ndarray
        Sequences held at once. [-]
    prompt, output : int or str, optional
        Instead of the context, which is their sum. [tokens]
    kv_dtype, kv_dtype_k, kv_dtype_v : str, optional
        Format of keys and values; 16 bit.
    engine : str
        ``none``: the architecture's minimum plus an assumed runtime.
    gpu : str or sequence of str, optional
        ``rtx-4090``, ``8xh100-80gb``, ``24GiB``; several give one row each.
    reserve : int or str
        Memory that others use on each GPU. [B]
    tp, pp, dp : int, optional
        Tensor ranks, pipeline stages, replicas; with N GPUs and none given, ``tp = N``. [-]
    allow_overlong : bool
        Whether the context may exceed the model's limit.
    assume : str, optional
        Family of an unknown `model_type`.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Report or Reports
        One report, or one for each GPU where several are named.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy.

    Notes
    -----
    The minimum is exact where the architecture is known; the runtime is assumed at 0.5 to 1.5 GiB,
    so totals are ranges. Engines reserve more than the minimum.

    Examples
    --------
    The KV cache of Llama-3.1-8B at 8,192 tokens in 16 bit is 1 GiB:

    >>> vram("llama-3.1-8b", context="8k")["kv_cache"].bytes
    1073741824
    """
    asked = dict(locals())
    given = {key: value for key, value in asked.items() if key not in ("model", "params", "config", "catalog")}
    book = _catalog(catalog)
    inventory = _only_model(model, params, config, assume, book)
    given["call"] = Call("vram", asked, VRAM_DEFAULTS)
    if inventory.is_opaque:
        return _each(_count_report, inventory, book, given)
    if overhead is not None:
        raise InputError(
            f"--overhead is for bare counts; {inventory.name} is counted item by item.", "Leave --overhead out."
        )
    return _each(_model_report, inventory, book, given)


def _only_model(model_: ModelLike, params_: Any, config_: Any, assume: str | None, book: Catalog) -> Inventory:
    """The one model that a call names."""
    named = [name for name, value in (("MODEL", model_), ("--params", params_), ("--config", config_)) if value is not None]
    if len(named) != 1:
        told = f"{' and '.join(named)} are given together" if named else "No model is given"
        raise InputError(f"{told}.", "Name one: llama-3.1-8b, --params 13b, or --config config.json.")
    if params_ is not None:
        return read_count(params_)
    if isinstance(config_, str):
        from llmcalc.model.readers.config import read_path

        return read_path(config_, book, assume)
    return model(config_ if config_ is not None else model_, assume=assume, catalog=book)


def _each(make: Any, inventory: Inventory, book: Catalog, given: dict[str, Any]) -> Report | Reports:
    """One report, or one for each GPU."""
    scenario = resolve(inventory, book, given)
    reports = [make(inventory, scenario, device, book, given) for device in scenario.devices or [None]]
    for report in reports:
        report.call = given["call"]
        report.catalog_date = book.date("models")
    return reports[0] if len(reports) == 1 else Reports(reports)


def _placement(inventory: Inventory, scenario: Scenario, device: Device | None) -> Placement:
    """Tensor ranks, stages and replicas for a device: with N GPUs and no placement, tp = N."""
    count = device.count if device else None
    tp, pp, dp = scenario.tp, scenario.pp, scenario.dp
    if count is not None and tp is None and pp is None and dp is None:
        tp = count
    elif count is not None:
        rest, over = divmod(count, (tp or 1) * (pp or 1) * (dp or 1))
        if over or not rest or (rest > 1 and tp is not None and pp is not None and dp is not None):
            raise InputError(
                f"tp {tp or 1} x pp {pp or 1} x dp {dp or 1} does not use the {count} GPUs of --gpu.",
                "Make the product equal the number of GPUs.",
            )
        if dp is None:
            dp = rest
        elif tp is None:
            tp = rest
        elif pp is None:
            pp = rest
    return place(inventory, tp or 1, pp or 1, dp or 1)


def _model_report(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog, given: dict[str, Any]
) -> Report:
    placement = _placement(inventory, scenario, device)
    bits = scenario.bits if scenario.bits is not None else scenario.dtype.bits
    label = f"{float(bits):g}-bit" if scenario.bits is not None else scenario.dtype.name
    assumed = scenario.bits is not None or scenario.dtype_assumed
    precision = inference.Precision(
        bits, label, "assumed" if assumed else "exact", _model_dtype(scenario, book), scenario.key, scenario.value
    )
    items = inference.model_items(inventory, placement, precision, scenario.context, scenario.sequences)
    report = _report("vram", inventory, scenario, placement, items, device)
    report.scenario["dtype"] = label
    if scenario.dtype_assumed and scenario.bits is None:
        report.scenario["dtype_assumed"] = True
    report.header = [inventory.title, f"{_size(inventory)} params", label + (" (assumed)" if scenario.dtype_assumed and scenario.bits is None else "")]
    report.header.append(_workload(scenario))
    report.placement = _ranks(placement)
    report.warnings += inventory.warnings
    report.warnings += [f"{reason}." for key, reason in inventory.unproven.items() if key != "context"]
    if scenario.bits is not None:
        report.hints.append(
            f"Real {float(bits):g}-bit formats add scales and leave some tensors in 16 bit; this counts {float(bits):g} bits for all."
        )
    if device is not None:
        _attach_capacity(report, inventory, placement, precision, scenario, device)
    elif not is_array(report.total_bytes):
        report.cards = smallest_cards(int(report.range_bytes[1]), book)
    return report


def _model_dtype(scenario: Scenario, book: Catalog) -> Any:
    """The dtype of states kept "in the model's dtype": 16 bit where weights are quantized."""
    if scenario.bits is None and scenario.dtype.bits >= 16:
        return scenario.dtype
    from llmcalc.precision import find_format

    return find_format("bf16", book, "weights", "--dtype")


def _attach_capacity(
    report: Report,
    inventory: Inventory,
    placement: Placement,
    precision: inference.Precision,
    scenario: Scenario,
    device: Device,
) -> None:
    """Solve for the longest context and the most sequences."""
    from llmcalc.planning.solve import capacity

    fixed = [item for item in report.items if item.name not in ("kv_cache", "state")]
    stages = range(placement.pp)
    budgets = [device.usable_bytes - sum(item.amounts[stage] for item in fixed) for stage in stages]
    safe = [device.usable_low - sum(item.high[stage] for item in fixed) for stage in stages]
    limit = None if scenario.allow_overlong else inventory.context
    found = inference.profiles(inventory, placement, precision)
    report.capacity = capacity(found, budgets, safe, scenario.context, scenario.sequences, limit)
    report.context_limit = inventory.context


def _count_report(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog, given: dict[str, Any]
) -> Report:
    """The rule of thumb, with the span of real models of that size beside it."""
    placement = _placement(inventory, scenario, device)
    bits = scenario.bits if scenario.bits is not None else scenario.dtype.bits
    factor = _factor(given["overhead"])
    number = inventory.params
    neighbours, low, high = _span(number, bits, book)
    shares = placement.gpus
    low, high = low // shares, -(-high // shares)
    items = inference.count_items(number, bits, factor, low, high, shares)
    placement_of_one = Placement(1, 1, 1, 0)
    report = _report("vram", inventory, scenario, placement_of_one, items, device)
    numerator, denominator = factor.as_integer_ratio()
    for name in ("context", "sequences", "kv_dtype_k", "kv_dtype_v"):
        report.scenario.pop(name)
    report.scenario |= {
        "bits": float(bits), "overhead": numerator / denominator, "tp": placement.tp, "pp": placement.pp,
        "dp": placement.dp,
    }  # fmt: skip
    label = f"{float(bits):g}-bit weights" + (" (assumed)" if scenario.bits is None and given["dtype"] is None else "")
    report.header = [inventory.title, label, f"rule of thumb  N x M x {numerator / denominator:g}"]
    report.placement = _ranks(placement)
    asked = [key for key in ("context", "max_model_len", "prompt", "kv_dtype", "kv_dtype_k", "kv_dtype_v") if given[key]]
    if asked or (is_array(given["sequences"]) or given["sequences"] not in (None, 1, "1")):
        report.warnings.append(
            "A bare count has no layers, so context, sequences and KV dtype do not change the rule of thumb; name the model."
        )
    report.neighbours = neighbours
    if device is None:
        report.cards = smallest_cards(int(report.total_bytes), book)
    return report


def _factor(value: Any) -> Any:
    """The overhead factor, exactly."""
    if value is None:
        return whole_or_fraction(6, 5)
    text = value if isinstance(value, str) else repr(float(value)) if isinstance(value, (int, float)) else str(value)
    parsed = parse_decimal(text)
    if parsed is None or parsed[0] < parsed[1] or parsed[0] > 100 * parsed[1]:
        raise InputError(f"--overhead is {value!r}.", "Use a factor from 1 to 100, such as 1.2.")
    return whole_or_fraction(*parsed)


def _span(number: int, bits: Any, book: Catalog) -> tuple[list[tuple[str, int]], int, int]:
    """Totals of real models of about that size at these bits, and what comes on top of their weights."""
    from llmcalc.memory.spans import near

    found = near(number, book)
    found.sort(key=lambda row: abs(row[0] - number))
    totals = [
        (name, inference.weight_bytes(size, bits) + kept + inference.RUNTIME) for size, kept, name in found
    ]
    if not found:
        return totals, 0, 2 * inference.weight_bytes(number, bits)
    extras = [kept for _, kept, _ in found]
    return totals, min(extras) + inference.RUNTIME_LOW, max(extras) + inference.RUNTIME_HIGH


def _size(inventory: Inventory) -> str:
    from llmcalc.units import format_count

    total = format_count(inventory.params)
    if inventory.routed_params:
        return f"{total} ({format_count(inventory.active_params)} active)"
    return total


def _workload(scenario: Scenario) -> str:
    many = f"{len(scenario.sequences):,} values" if is_array(scenario.sequences) else f"{scenario.sequences:,}"
    tokens = f"{scenario.context.size:,} contexts" if is_array(scenario.context) else f"{scenario.context:,} tokens"
    return f"{many} x {tokens}"


def _ranks(placement: Placement) -> list[str]:
    parts = [f"{name} {n}" for name, n in (("tp", placement.tp), ("pp", placement.pp), ("dp", placement.dp)) if n > 1]
    return [" ".join(parts)] if parts else []


def _report(
    command: str,
    inventory: Inventory,
    scenario: Scenario,
    placement: Placement,
    items: list[Item],
    device: Device | None,
) -> Report:
    report = Report(command, items, find_peak(items, placement.ranks, INFERENCE_PHASES))
    report.model = {
        "name": inventory.name,
        "params": inventory.params,
        "active_params": inventory.active_params,
        "stored_params": inventory.stored_params,
        "source": inventory.source,
    }
    report.scenario = {
        "dtype": scenario.dtype.name,
        "bits": None if scenario.bits is None else float(scenario.bits),
        "context": scenario.context,
        "sequences": scenario.sequences,
        "prompt": scenario.prompt,
        "output": scenario.output,
        "kv_dtype_k": scenario.key.name,
        "kv_dtype_v": scenario.value.name,
        "engine": scenario.engine,
        "gpu": None if device is None else device.name,
        "reserve": scenario.reserve,
        "tp": placement.tp,
        "pp": placement.pp,
        "dp": placement.dp,
        "allow_overlong": scenario.allow_overlong,
    }
    report.device = device
    report.gpus = placement.gpus * placement.dp
    return report


VRAM_DEFAULTS: dict[str, Any] = {"sequences": 1, "engine": "none", "reserve": 0, "allow_overlong": False}


def params(
    model: ModelLike = None,
    *,
    params: Any = None,
    config: Any = None,
    dtype: str | None = None,
    bits: Any = None,
    assume: str | None = None,
    catalog: Any = None,
) -> Report:
    """Parameters of a model by role, all and active.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory
        The model: anything `llmcalc.model` takes.
    dtype, bits : str, number, optional
        For the bytes beside the counts; the checkpoint's dtype, else bf16.
    assume : str, optional
        Family of an unknown `model_type`.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Report
        Items by role, each with ``inputs["parameters"]``; bytes at the dtype.

    Examples
    --------
    GPT-3's published matrices:

    >>> params("gpt-3")["up"].inputs["parameters"]
    57982058496
    """
    asked = dict(locals())
    book = _catalog(catalog)
    inventory = _only_model(model, params, config, assume, book)
    given = {"dtype": dtype, "bits": bits, "quant": None, "kv_dtype": None, "kv_dtype_k": None, "kv_dtype_v": None}
    empty = dict.fromkeys(
        ("context", "max_model_len", "prompt", "output", "sequences", "tp", "pp", "dp", "reserve", "gpu", "engine")
    )
    scenario = resolve(inventory, book, {**empty, **given, "allow_overlong": True})
    width = parse_bits(bits) if bits is not None else scenario.dtype.bits
    items = [
        Item(
            role,
            [inference.weight_bytes(number, width)],
            grade="exact" if not (scenario.dtype_assumed or bits is not None) else "assumed",
            formula="sum of tensors",
            inputs={"parameters": number, "bits": width},
            note=f"{number:,}",
        )
        for role, number in inventory.by_role().items()
    ]
    report = _report("params", inventory, scenario, Placement(1, 1, 1, inventory.layers), items, None)
    for name in list(report.scenario):
        if name not in ("dtype", "bits"):
            report.scenario.pop(name)
    report.header = [inventory.title, f"{_size(inventory)} params", scenario.dtype.name if bits is None else f"{float(width):g}-bit"]
    report.inventory = inventory
    report.warnings += inventory.warnings
    report.call = Call("params", asked, {})
    report.catalog_date = book.date("models")
    return report
