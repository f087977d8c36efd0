"""Memory at inference: of a known model, and of a bare count."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from llmcalc.answer.common import (
    check_formats,
    divides,
    needs_layers,
    placement_of,
    precision_of,
    priced,
    ranks_of,
    remembered,
    report_of,
    size_of,
    workload_of,
)
from llmcalc.answer.kernels import runner, told
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError
from llmcalc.estimate import INFERENCE_PHASES, Item, find_peak
from llmcalc.formula import ceil_div, is_array
from llmcalc.hardware import Device, device_of, smallest_cards
from llmcalc.memory import caches, folds, inference
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement, place
from llmcalc.report import Report
from llmcalc.scenario import Scenario

OWN = {
    "llama.cpp": ("llamacpp", "llama_report"),
    "ollama": ("ollama", "ollama_report"),
    "mlx": ("mlx", "mlx_report"),
    "transformers": ("transformers", "transformers_report"),
    "vllm": ("vllm", "vllm_report"),
    "sglang": ("sglang", "sglang_report"),
    "tensorrt-llm": ("tensorrt_llm", "tensorrt_llm_report"),
}
"""Engines with an answer of their own: its module, imported when it is asked for, and its function."""

SUGGESTED = "h200"
"""The card in suggestions of several: large, and rented everywhere."""


def model_report(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog, given: dict[str, Any]
) -> Report:
    """The architecture's minimum of a known model plus an assumed runtime, or what its engine reserves."""
    if scenario.company is not None:
        from llmcalc.answer.together import together

        return together(model_report, inventory, scenario, device, book, given)
    if scenario.engine in OWN:
        return _of_engine(inventory, scenario, device, book)
    needs_layers(inventory, scenario.engine, "; llmcalc params works without")
    check_formats(scenario)
    placement = placement_of(inventory, scenario, device)
    inventory = scenario.stored(inventory)
    precision = precision_of(inventory, scenario, book)
    workload = remembered(scenario, placement)
    items = folds.model_items(inventory, placement, precision, workload)
    asked = _asked(items, inventory, placement, precision, workload, scenario, book)
    report = report_of("vram", inventory, scenario, placement, items, device)
    if scenario.dtype_assumed and scenario.bits is None:
        report.scenario["dtype_assumed"] = True
    report.header = [
        inventory.title, f"{size_of(inventory)} params", priced(inventory, scenario, precision),
    ]  # fmt: skip
    report.header.append(workload_of(scenario))
    report.placement = ranks_of(placement)
    report.warnings += scenario.notes + inventory.warnings
    if asked is not None:
        asked.tell(report)
    _tell(report, inventory, scenario)
    runs = runner(scenario.scheme, book)
    if device is not None and not runs(device.name):
        report.warnings.append(told(scenario.scheme, device.name))
    if device is not None and not scenario.quick:
        _attach_capacity(report, inventory, placement, precision, scenario, device, asked)
    elif device is None and not is_array(report.total_bytes):
        report.told.cards = smallest_cards(int(report.range_bytes[1]) + scenario.reserve, book, runs=runs)
        if not report.told.cards:
            report.hints.append(_several_cards(inventory, scenario, precision, book))
    return report


def _of_engine(inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog) -> Report:
    """What the engine reserves; a server also on a card that it may not know."""
    cards = import_module("llmcalc.answer.cards") if device is not None else None
    watched = cards is not None and scenario.engine in cards.PROGRAMS
    if cards is not None and watched:
        cards.check_card(scenario.engine, device, book)
    module, name = OWN[scenario.engine]
    made: Report = getattr(import_module(f"llmcalc.answer.{module}"), name)(inventory, scenario, device, book)
    if cards is not None and watched:
        cards.tell_card(made, scenario.engine, device, book)
    return made


def _tell(report: Report, inventory: Inventory, scenario: Scenario) -> None:
    """What the reader should know of what was assumed."""
    if scenario.encoder_assumed:
        report.warnings.append(
            f"The encoder is assumed to read {scenario.streams['encoder']:,} tokens, as many as the context; "
            "--encoder-tokens says otherwise."
        )
    report.warnings += [f"{reason}." for key, reason in inventory.unproven.items() if key != "context"]
    if scenario.bits is not None:
        report.hints.append(_real_formats(float(scenario.bits)))
    if inventory.dtype and scenario.dtype_assumed and scenario.bits is None and not scenario.scheme:
        report.warnings.append(
            f"The configuration's dtype {inventory.dtype[:40]!r} is not one of 16 bit or more; "
            "bf16 is assumed."
        )


def _asked(items: list[Item], *estimate: Any) -> Any:
    """What is asked beyond one model and one length, put into the items; None where nothing is."""
    scenario = estimate[4]
    if scenario.demand is None and scenario.beside is None:
        return None
    from llmcalc.answer.asked import asked_of

    return asked_of(items, *estimate)


def count_report(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog, given: dict[str, Any]
) -> Report:
    """The rule of thumb, with the span of real models of that size beside it."""
    if scenario.engine in OWN:
        needs_layers(inventory, scenario.engine)
    if scenario.beside is not None or scenario.company is not None:
        raise InputError(
            "Drafts, adapters and models beside each other need models with layers, not a bare count.",
            "Name a model.",
        )
    check_formats(scenario)
    placement = placement_of(inventory, scenario, device)
    bits = scenario.bits if scenario.bits is not None else scenario.dtype.bits
    number = inventory.params
    shares = placement.gpus
    neighbours, low, high = _span(number, bits, book, shares)
    items = folds.count_items(number, bits, scenario.overhead, low, high, shares)
    placement_of_one = Placement(1, 1, 1, 0)
    report = report_of("vram", inventory, scenario, placement_of_one, items, device)
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
    assumed = scenario.bits is None and given["dtype"] is None and not getattr(scenario.scheme, "dtype", "")
    label = f"{float(bits):g}-bit weights" + (" (assumed)" if assumed else "")
    if scenario.bits is not None and scenario.scheme is not None:
        label = f"{scenario.scheme.name} (nominally {float(bits):.2f} b/w)"
        items[0].grade, items[0].note = "assumed", "parameters x nominal bits / 8"
    report.header = [inventory.title, label, f"rule of thumb  N x M x {numerator / denominator:g}"]
    report.placement = ranks_of(placement)
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
        report.told.cards = smallest_cards(int(report.range_bytes[1]) + scenario.reserve, book)
    return report


def _several_cards(inventory: Inventory, scenario: Scenario, precision: Precision, book: Catalog) -> str:
    """How many of a large, common card hold what no single one does."""
    card = device_of(book.lookup("gpus", SUGGESTED) or {})
    for count in (2, 4, 8, 16):
        if not divides(inventory, count):
            continue
        placement = place(inventory, count, 1)
        items = folds.model_items(inventory, placement, precision, remembered(scenario, placement))
        if find_peak(items, placement.ranks, INFERENCE_PHASES).high <= card.usable_low - scenario.reserve:
            return f"No single card holds it; {count} x {card.name} do: --gpu {count}x{SUGGESTED}."
    return "No single card holds it; name several: --gpu 16xh200 --tp 8 --pp 2."


def _attach_capacity(
    report: Report,
    inventory: Inventory,
    placement: Placement,
    precision: Precision,
    scenario: Scenario,
    device: Device,
    asked: Any,
) -> None:
    """Solve for the longest context and the most sequences."""
    from llmcalc.planning.solve import LONGEST, capacity

    fixed = [item for item in report.items if item.name.removeprefix("draft_") not in ("kv_cache", "state")]
    stages = range(placement.pp)
    budgets = [device.usable_bytes - sum(item.amounts[stage] for item in fixed) for stage in stages]
    safe = [device.usable_low - sum(item.high[stage] for item in fixed) for stage in stages]
    limit = None if scenario.allow_overlong else inventory.context
    workload = remembered(scenario, placement)
    found = caches.profiles(inventory, placement, precision, workload)
    if asked is not None:
        found = asked.profiles(found)
    report.capacity = capacity(found, budgets, safe, scenario.context, workload.sequences, limit)
    demand = scenario.demand
    if demand is not None and not is_array(scenario.context) and not is_array(scenario.sequences):
        from llmcalc.answer.requests import settle_capacity
        from llmcalc.memory.requests import Shared

        charges = [Shared(profile) for profile in found]
        most = limit or LONGEST
        settle_capacity(report.capacity, demand, int(workload.sequences), charges, (budgets, safe), most)
    if report.capacity.max_concurrency is not None:
        report.capacity.max_concurrency *= placement.dp
    report.context_limit = inventory.context


def _real_formats(bits: float) -> str:
    """Schemes near a bare number of bits."""
    near = "q8_0, fp8 or int8" if bits >= 7 else "q4_k_m, awq or nf4" if bits >= 3.5 else "q3_k_m or q2_k"
    if 5 <= bits < 7:
        near = "q6_k or q5_k_m"
    return (
        f"Real {bits:g}-bit formats add scales and leave some tensors in 16 bit; this counts {bits:g} bits "
        f"for all. --quant {near} is exact."
    )


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
