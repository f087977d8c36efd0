"""Several models on the same GPUs at once: each with its items, all resident together."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.demand.company import SHARES
from llmcalc.errors import InputError, one_of
from llmcalc.estimate import INFERENCE_PHASES, Item, find_peak
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.model.inventory import Inventory
from llmcalc.report import Report
from llmcalc.scenario import Scenario, resolve
from llmcalc.units import format_bytes

COPIED = ("weights", "kv_cache", "state", "draft_weights", "draft_kv_cache", "draft_state", "lora")
"""What each member of an ensemble has for itself in one process."""

ITS_OWN = (
    "with_models", "ensemble", "draft", "draft_quant", "lora", "max_loras", "max_lora_rank", "assume",
    "num_speculative_tokens", "images", "image_tokens",
)  # fmt: skip
"""Keywords that are about the first model alone."""

Make = Callable[..., Report]


def together(
    make: Make,
    inventory: Inventory,
    scenario: Scenario,
    device: Device | None,
    book: Catalog,
    given: dict[str, Any],
) -> Report:
    """One model's report with all others that are resident.

    Parameters
    ----------
    make : callable
        Makes the report of one model.
    inventory, scenario, device, book, given : Inventory, Scenario, Device or None, Catalog, dict
        As for one model; the scenario names the company.

    Returns
    -------
    Report
        The total is the sum of all peaks: nobody knows that they do not coincide.

    Raises
    ------
    InputError
        For models that can't lie on these GPUs.
    """
    company = scenario.company
    assert company is not None
    alone = copy(scenario)
    alone.company = None
    others = [_other(make, model, scheme, device, book, given) for model, scheme in company.others]
    if company.members > 1 and scenario.engine in SHARES:  # a server holds one model: so many servers
        others += [make(inventory, copy(alone), device, book, given) for _ in range(company.members - 1)]
    items = [_whole(report) for report in others]
    first = make(inventory, alone, _left(device, items) if scenario.engine == "none" else device, book, given)
    if company.members > 1 and scenario.engine == "none":
        items.append(_members(first, company.members))
    return _joined(first, others, items, device, scenario)


def _other(
    make: Make, model: Any, scheme: str | None, device: Device | None, book: Catalog, given: dict[str, Any]
) -> Report:
    """Another model by the same keywords, but those that are about the first one alone."""
    from llmcalc.model.readers import read
    from llmcalc.precision import stored_as_declared

    found = stored_as_declared(read(model, book), book)
    if found.is_opaque or found.family == "header":
        raise InputError(f"--with {found.name} tells no layers.", "Name a model or a config.json.")
    own = {key: value for key, value in given.items() if key not in ITS_OWN}
    if scheme is not None:
        own["quant"] = scheme
    asked = own.get("context")
    if asked is not None and found.context and not is_array(asked) and not own.get("allow_overlong"):
        from llmcalc.units import parse_length

        own["context"] = min(parse_length(asked, "--context"), found.context)
    scenario = resolve(found, book, own)
    scenario.quick = True
    return make(found, scenario, device, book, own)


def _whole(report: Report) -> Item:
    """All that a model takes, as one item with its parts."""
    ranks = range(len(report.items[0].amounts))
    parts = [item for item in report.items if item.where == "device"]
    totals: dict[str, list[Any]] = {
        end: [sum(getattr(item, end)[rank] for item in parts) for rank in ranks]
        for end in ("amounts", "low", "high")
    }
    weights = next(item for item in parts if item.name == "weights")
    cache = sum(item.bytes for item in parts if item.name in ("kv_cache", "state"))
    held = "" if is_array(cache) else f", caches {format_bytes(cache, 'gib')}"
    return Item(
        f"with {report.model['name']}", totals["amounts"], low=totals["low"], high=totals["high"],
        grade=report.grade, formula="sum of parts", source=weights.source, items=parts,
        note=f"weights {format_bytes(weights.bytes, 'gib')}{held}",
    )  # fmt: skip


def _members(report: Report, many: int) -> Item:
    """The other members of an ensemble in one process: weights and caches again, the runtime once."""
    parts = [item for item in report.items if item.name in COPIED]
    ranks = range(len(parts[0].amounts))

    def total(end: str) -> list[Any]:
        return [(many - 1) * sum(getattr(item, end)[rank] for item in parts) for rank in ranks]

    return Item(
        "ensemble", total("amounts"), low=total("low"), high=total("high"), grade=parts[0].grade,
        formula="sum of parts", inputs={"members": many}, source=parts[0].source,
        note=f"{many - 1} more member{'s' if many > 2 else ''}: weights and caches",
    )  # fmt: skip


def _left(device: Device | None, items: list[Item]) -> Device | None:
    """The device as the others leave it."""
    if device is None or not items or any(is_array(item.bytes) for item in items):
        return device
    made = copy(device)
    low, high = (sum(item.range_bytes[end] for item in items) for end in (0, 1))
    made.usable_bytes = max(device.usable_bytes - sum(item.bytes for item in items), 0)
    made.usable_low, made.usable_high = max(device.usable_low - high, 0), max(device.usable_high - low, 0)
    return made


def _joined(
    first: Report, others: list[Report], items: list[Item], device: Device | None, scenario: Scenario
) -> Report:
    """The first model's report, with the others' items, on the whole device."""
    ranks = len(first.items[0].amounts)
    wrong = next((item for item in items if len(item.amounts) != ranks), None)
    if wrong is not None:
        raise InputError(f"{wrong.name} has another number of stages.", "Use one stage: leave --pp out.")
    alone = first.total_bytes
    first.items = (*first.items, *items)
    names = ["all"] if ranks == 1 else [f"stage {stage + 1} of {ranks}" for stage in range(ranks)]
    first.peak = find_peak(first.items, names, INFERENCE_PHASES)
    floor = sum(report.minimum_bytes for report in others) + sum(
        i.bytes for i in items if i.name == "ensemble"
    )
    if first.floor_bytes is not None:
        first.floor_bytes = first.floor_bytes + floor
    else:
        first.floor_bytes = alone - sum(i.bytes_at_peak for i in first.items if i.name == "runtime") + floor
    first.device, first.margins = device, None
    first.told.cards = []
    if first.workload:
        first.workload = {}
        first.warnings.append("The cases of the requests are each model's own: ask for one at a time.")
    if scenario.engine in SHARES or any(
        item.name == "ensemble" for item in items
    ):  # the others would have to grow as well
        first.capacity = None
    for report in others:
        first.warnings += [
            f"{report.model['name']}: {told}" for told in report.warnings if told not in first.warnings
        ]
    _tell(first, others, device, scenario, alone)
    return first


def _tell(first: Report, others: list[Report], device: Device | None, scenario: Scenario, alone: Any) -> None:
    """Who is resident, what each server's share is, and what a merged model would need."""
    company = scenario.company
    assert company is not None
    all_of = [first, *others]
    first.scenario |= {"with_models": [r.model["name"] for r in others], "ensemble": company.members}
    if company.members > 1:
        first.header.append(f"ensemble of {company.members}")
        if not is_array(alone):
            first.hints.append(
                f"Merged into one model the ensemble needs {format_bytes(alone, 'gib')}, "
                f"{format_bytes(first.total_bytes - alone, 'gib')} less."
            )
    if others and company.others:
        first.header.append(f"with {one_of([str(n) for n in first.scenario['with_models']], 'and')}")
    first.together = [{"name": report.model["name"], "total_bytes": report.total_bytes} for report in all_of]
    first.together[0]["total_bytes"] = alone
    if scenario.engine not in SHARES or device is None or any(is_array(r.total_bytes) for r in all_of):
        return
    if scenario.engine != "vllm":
        _tell_free(first, all_of, device, alone)
        return
    total = device.usable_bytes + scenario.reserve
    shares = [math.ceil(1000 * (report.counted_bytes or 0) / total) / 1000 for report in all_of]
    for row, share in zip(first.together, shares, strict=True):
        row["gpu_memory_utilization"] = share
    told = [f"{share:g} for {report.model['name']}" for share, report in zip(shares, all_of, strict=True)]
    whole = round(sum(shares), 3)
    first.advice.append(f"--gpu-memory-utilization {one_of(told, 'and')}: {whole:g} in all")
    if whole > 1:
        first.warnings.append(f"The servers' shares add up to {whole:g} of the GPU; they may be 1 at most.")


def _tell_free(first: Report, all_of: list[Report], device: Device, alone: Any) -> None:
    """Shares of what is free when each server starts, one after the other."""
    free, told = device.usable_bytes, []
    for row, report in zip(first.together, all_of, strict=True):
        assert report.share is not None
        option, counted, before = report.share
        if free <= before:
            first.warnings.append(f"Nothing is left for {report.model['name']} when it starts.")
            return
        row[option] = share = math.ceil(1000 * counted / (free - before)) / 1000
        if share > 1:
            first.warnings.append(f"Too little is left for {report.model['name']} when it starts.")
            return
        told.append(f"{share:g} for {report.model['name']}")
        free -= int(alone if report is first else report.total_bytes)
    name = f"--{option.replace('_', '-')}"
    first.advice.append(f"{name} {one_of(told, 'and')}, started in this order: each is of what is then free")
