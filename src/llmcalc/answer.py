"""From a resolved scenario to a report: items, peak, capacity, neighbours, heading.

One function a question; `llmcalc.api` is their public face.
"""

from __future__ import annotations

from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, InputError, one_of
from llmcalc.estimate import INFERENCE_PHASES, Item, find_peak
from llmcalc.formula import ceil_div, is_array
from llmcalc.hardware import Device, Placement, device_of, place, smallest_cards
from llmcalc.memory import caches, engines, folds, inference
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import TAGS, Inventory
from llmcalc.precision import Format, find_format
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import format_count

SUGGESTED = "h200"
"""The card in suggestions of several: large, and rented everywhere."""


def _placement(inventory: Inventory, scenario: Scenario, device: Device | None) -> Placement:
    """Tensor ranks, stages and replicas for a device: with N GPUs and no placement, tp = N."""
    count = device.count if device else None
    tp, pp, dp = scenario.tp, scenario.pp, scenario.dp
    if count is not None and tp is None and pp is None and dp is None:
        return _across(inventory, count)
    if count is not None:
        rest, over = divmod(count, (tp or 1) * (pp or 1) * (dp or 1))
        if over or not rest or (rest > 1 and tp is not None and pp is not None and dp is not None):
            raise InputError(
                f"tp {tp or 1} x pp {pp or 1} x dp {dp or 1} does not use the {count} GPUs of --gpu.",
                "Make the product equal the number of GPUs.",
            )
        if tp is None:
            tp = rest
        elif dp is None:
            dp = rest
        elif pp is None:
            pp = rest
    return place(inventory, tp or 1, pp or 1, dp or 1)


def _across(inventory: Inventory, count: int) -> Placement:
    """N GPUs without a placement are N tensor ranks."""
    try:
        return place(inventory, count, 1)
    except InputError as error:
        ways = [str(n) for n in range(1, 65) if _divides(inventory, n)]
        raise InputError(
            f"The {count} GPUs of --gpu can't share {inventory.name} as tensor ranks: "
            f"{error.problem.replace(f'--tp {count}', str(count))}",
            f"Use {one_of(ways)} GPUs, or pipeline stages: --pp {count}.",
        ) from None


def _divides(inventory: Inventory, tp: int) -> bool:
    try:
        place(inventory, tp, 1)
    except InputError:
        return False
    return True


def model_report(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog, given: dict[str, Any]
) -> Report:
    """The architecture's minimum of a known model plus an assumed runtime."""
    if inventory.family == "header":
        raise ConfigError(
            f"{inventory.name}: the header tells the weights, not the layers and their caches.",
            "Put the model's config.json beside it; llmcalc params works without.",
        )
    _check_formats(scenario)
    placement = _placement(inventory, scenario, device)
    bits = scenario.bits if scenario.bits is not None else scenario.dtype.bits
    label = f"{float(bits):g}-bit" if scenario.bits is not None else scenario.dtype.name
    assumed = scenario.bits is not None or scenario.dtype_assumed
    precision = Precision(
        bits,
        label,
        "assumed" if assumed else "exact",
        _model_dtype(scenario, book),
        scenario.key,
        scenario.value,
        _native_bits(inventory, scenario, book),
    )
    workload = _remembered(scenario, placement)
    items = folds.model_items(inventory, placement, precision, workload)
    report = _report("vram", inventory, scenario, placement, items, device)
    report.scenario["dtype"] = label
    if scenario.dtype_assumed and scenario.bits is None:
        report.scenario["dtype_assumed"] = True
    report.header = [
        inventory.title,
        f"{_size(inventory)} params",
        label + (" (assumed)" if scenario.dtype_assumed and scenario.bits is None else ""),
    ]
    report.header.append(_workload(scenario))
    report.placement = _ranks(placement)
    report.warnings += _quantized_warning(inventory, scenario) + inventory.warnings
    if scenario.encoder_assumed:
        report.warnings.append(
            f"The encoder is assumed to read {scenario.streams['encoder']:,} tokens, as many as the context; "
            "--encoder-tokens says otherwise."
        )
    report.warnings += [f"{reason}." for key, reason in inventory.unproven.items() if key != "context"]
    if scenario.bits is not None:
        report.hints.append(
            f"Real {float(bits):g}-bit formats add scales and leave some tensors in 16 bit; "
            f"this counts {float(bits):g} bits for all."
        )
    if inventory.dtype and scenario.dtype_assumed and scenario.bits is None and not inventory.quantized:
        report.warnings.append(
            f"The configuration's dtype {inventory.dtype[:40]!r} is not one of 16 bit or more; "
            "bf16 is assumed."
        )
    if device is not None:
        _attach_capacity(report, inventory, placement, precision, scenario, device)
    elif not is_array(report.total_bytes):
        report.cards = smallest_cards(int(report.range_bytes[1]) + scenario.reserve, book)
        if not report.cards:
            report.hints.append(_several_cards(inventory, scenario, precision, book))
    return report


def _check_formats(scenario: Scenario) -> None:
    """Refuse formats that the engine keeps no cache in."""
    formats = getattr(engines.load(scenario.engine), "KV_FORMATS", None)
    for kept in (scenario.key, scenario.value):
        if formats is not None and kept.name not in formats:
            raise InputError(
                f"{scenario.engine} keeps no cache in {kept.name} here.",
                f"Use --kv-dtype {one_of(formats)}, or --engine none.",
            )


def _several_cards(inventory: Inventory, scenario: Scenario, precision: Precision, book: Catalog) -> str:
    """How many of a large, common card hold what no single one does."""
    card = device_of(book.lookup("gpus", SUGGESTED) or {})
    for count in (2, 4, 8, 16):
        if not _divides(inventory, count):
            continue
        placement = place(inventory, count, 1)
        items = folds.model_items(inventory, placement, precision, _remembered(scenario, placement))
        if find_peak(items, placement.ranks, INFERENCE_PHASES).high <= card.usable_low - scenario.reserve:
            return f"No single card holds it; {count} x {card.name} do: --gpu {count}x{SUGGESTED}."
    return "No single card holds it; name several: --gpu 16xh200 --tp 8 --pp 2."


def _native_bits(
    inventory: Inventory, scenario: Scenario, book: Catalog, tags: tuple[str, ...] = folds.LOADED
) -> dict[str, Any] | None:
    """Bits of the dtypes that single tensors have for themselves, unless the user prices all alike."""
    if scenario.stated & {"bits", "dtype"}:
        return None
    own = {t.dtype for g in inventory for t in g.tensors if t.dtype is not None and t.tag in tags}
    return {dtype: find_format(dtype, book, "stored", "--dtype").bits for dtype in own}


def _quantized_warning(inventory: Inventory, scenario: Scenario) -> list[str]:
    """Say that a quantized checkpoint is priced as if it were not, unless the user chose the price."""
    if not inventory.quantized or scenario.stated & {"bits", "dtype"}:
        return []
    return [
        f"The checkpoint is quantized ({inventory.quantized}), says its configuration; "
        "weights are priced at 16 bit here."
    ]


def _remembered(scenario: Scenario, placement: Placement) -> Workload:
    """What one replica remembers, as the engine lays it out."""
    streams = {**scenario.streams, "decoder": scenario.context}
    held = ceil_div(scenario.sequences, placement.dp)
    return Workload(streams, held, engines.load(scenario.engine).layout, scenario.encoder_assumed)


def _model_dtype(scenario: Scenario, book: Catalog) -> Format:
    """The dtype of states kept "in the model's dtype": 16 bit where weights are quantized."""
    if scenario.bits is None and scenario.dtype.bits >= 16:
        return scenario.dtype
    return find_format("bf16", book, "weights", "--dtype")


def _attach_capacity(
    report: Report,
    inventory: Inventory,
    placement: Placement,
    precision: Precision,
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
    workload = _remembered(scenario, placement)
    found = caches.profiles(inventory, placement, precision, workload)
    report.capacity = capacity(found, budgets, safe, scenario.context, workload.sequences, limit)
    if report.capacity.max_concurrency is not None:
        report.capacity.max_concurrency *= placement.dp
    report.context_limit = inventory.context


def count_report(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog, given: dict[str, Any]
) -> Report:
    """The rule of thumb, with the span of real models of that size beside it."""
    _check_formats(scenario)
    placement = _placement(inventory, scenario, device)
    bits = scenario.bits if scenario.bits is not None else scenario.dtype.bits
    number = inventory.params
    shares = placement.gpus
    neighbours, low, high = _span(number, bits, book, shares)
    items = folds.count_items(number, bits, scenario.overhead, low, high, shares)
    placement_of_one = Placement(1, 1, 1, 0)
    report = _report("vram", inventory, scenario, placement_of_one, items, device)
    report.gpus = shares * placement.dp
    numerator, denominator = scenario.overhead
    for name in ("context", "sequences", "kv_dtype_k", "kv_dtype_v"):
        report.scenario.pop(name)
    report.scenario |= {
        "dtype": f"{float(bits):g}-bit",
        "bits": float(bits),
        "overhead": numerator / denominator,
        "tp": placement.tp,
        "pp": placement.pp,
        "dp": placement.dp,
    }
    label = f"{float(bits):g}-bit weights" + (
        " (assumed)" if scenario.bits is None and given["dtype"] is None else ""
    )
    report.header = [inventory.title, label, f"rule of thumb  N x M x {numerator / denominator:g}"]
    report.placement = _ranks(placement)
    asked = [
        key
        for key in ("context", "max_model_len", "prompt", "kv_dtype", "kv_dtype_k", "kv_dtype_v")
        if given[key]
    ]
    if asked or (is_array(given["sequences"]) or given["sequences"] not in (None, 1, "1")):
        report.warnings.append(
            "A bare count has no layers, so context, sequences and KV dtype do not change the rule of "
            "thumb; name the model."
        )
    report.neighbours = neighbours
    if device is None:
        report.cards = smallest_cards(int(report.range_bytes[1]) + scenario.reserve, book)
    return report


def _span(number: int, bits: Any, book: Catalog, shares: int) -> tuple[list[tuple[str, int]], int, int]:
    """Totals of real models of about that size at these bits, and what a GPU holds besides its weights."""
    from llmcalc.memory import spans

    found = spans.near(number, book)
    found.sort(key=lambda row: abs(row[0] - number))
    totals = [(name, inference.weight_bytes(size, bits) + kept + folds.RUNTIME) for size, kept, name in found]
    if not found:
        return totals, 0, 2 * inference.weight_bytes(number, bits) // shares
    extras = [ceil_div(kept, shares) for _, kept, _ in found]
    return totals, min(extras) + folds.RUNTIME_LOW, max(extras) + folds.RUNTIME_HIGH


def _size(inventory: Inventory) -> str:
    total = format_count(inventory.params)
    if inventory.routed_params:
        return f"{total} ({format_count(inventory.active_params)} active)"
    return total


def _workload(scenario: Scenario) -> str:
    def span(values: Any) -> str:
        return f"{int(values.min()):,} to {int(values.max()):,}"

    many, tokens = scenario.sequences, scenario.context
    if is_array(many) and is_array(tokens):
        return f"{span(many)} sequences x {span(tokens)} tokens ({tokens.size:,} pairs)"
    if is_array(tokens):
        return f"{many:,} x {span(tokens)} tokens ({tokens.size:,} values)"
    if is_array(many):
        return f"{span(many)} sequences x {tokens:,} tokens ({many.size:,} values)"
    return f"{many:,} x {tokens:,} tokens"


def _ranks(placement: Placement) -> list[str]:
    parts = [
        f"{name} {n}"
        for name, n in (("tp", placement.tp), ("pp", placement.pp), ("dp", placement.dp))
        if n > 1
    ]
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
        "encoder_tokens": scenario.streams.get("encoder"),
        "image_tokens": scenario.streams.get("image"),
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
    report.read_from = inventory.origin
    report.origins = _origins(inventory, scenario)
    report.device = device
    report.gpus = placement.gpus * placement.dp
    return report


def _origins(inventory: Inventory, scenario: Scenario) -> dict[str, str]:
    """Where each input came from, for ``--explain``."""
    weights = "given" if scenario.bits is not None or "dtype" in scenario.stated else "the checkpoint's dtype"
    if scenario.dtype_assumed and scenario.bits is None:
        weights = "assumed: 16 bit"
    cache = "given" if scenario.stated & {"kv_dtype", "kv_dtype_k", "kv_dtype_v"} else "default: 16 bit"
    asked = scenario.stated & {"context", "max_model_len", "prompt", "output"}
    tokens = "given" if asked else "default: the model's limit, at most 8,192"
    origins = {
        "bits": weights,
        "bytes_per_parameter": weights,
        "dtype": weights,
        "bytes_per_element": cache,
        "row_bytes": cache,
        "kv_dtype_k": cache,
        "kv_dtype_v": cache,
        "tokens": tokens,
        "positions": tokens,
        "context": tokens,
        "overhead": "given" if "overhead" in scenario.stated else "default",
    }
    for name in (
        "sequences",
        "gpu",
        "reserve",
        "tp",
        "pp",
        "dp",
        "engine",
        "prompt",
        "output",
        "allow_overlong",
    ):
        origins[name] = "given" if name in scenario.stated else "default"
    return origins


def params_report(inventory: Inventory, scenario: Scenario, book: Catalog, by: str = "role") -> Report:
    """Parameters by role, layer or tag, with their bytes."""
    width = scenario.bits if scenario.bits is not None else scenario.dtype.bits
    native = _native_bits(inventory, scenario, book, TAGS if by == "tag" else ("main",)) or {}
    items = [
        Item(
            name,
            [sum(inference.weight_bytes(n, native.get(dtype, width)) for dtype, n in own.items())],
            grade="assumed" if scenario.dtype_assumed or scenario.bits is not None else inventory.grade,
            formula="sum of tensors",
            inputs={"parameters": sum(own.values()), "bits": width if not native else "of each tensor"},
            note=f"{sum(own.values()):,}",
        )
        for name, own in inventory.breakdown(by).items()
    ]
    report = _report("params", inventory, scenario, Placement(1, 1, 1, inventory.layers), items, None)
    report.scenario = {key: report.scenario[key] for key in ("dtype", "bits")}
    label = scenario.dtype.name if scenario.bits is None else f"{float(width):g}-bit"
    assumed = " (assumed)" if scenario.dtype_assumed and scenario.bits is None else ""
    size = [] if inventory.is_opaque else [f"{_size(inventory)} params"]
    report.header = [inventory.title, *size, label + assumed]
    report.inventory = inventory
    report.warnings += _quantized_warning(inventory, scenario) + inventory.warnings
    return report
