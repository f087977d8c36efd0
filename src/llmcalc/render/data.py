"""JSON: the contract's object, always in bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SCHEMA = 1


def plain(value: Any) -> Any:
    """Turn numpy values, Fractions and tuples into what JSON knows."""
    if isinstance(value, (str, bool, int, type(None))):
        return value
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return float(value) if not isinstance(value, float) else value


def item_as_dict(item: Any) -> dict[str, Any]:
    """One item with its parts."""
    return {
        "name": item.name,
        "bytes": plain(item.bytes),
        "bytes_at_peak": plain(item.bytes_at_peak),
        "range_bytes": plain(list(item.range_bytes)),
        "where": item.where,
        "grade": item.grade,
        "phases": list(item.phases),
        "formula": item.formula,
        "inputs": plain(item.inputs),
        "source": item.source,
        "items": [item_as_dict(part) for part in item.items],
    }


def _one(report: Any) -> dict[str, Any]:
    """The contract's object of one report."""
    device = report.device
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "command": report.command,
        "model": plain(report.model),
        "scenario": plain(report.scenario),
        "total_bytes": plain(report.total_bytes),
        "range_bytes": plain(list(report.range_bytes)),
        "minimum_bytes": plain(report.minimum_bytes),
        "host_bytes": plain(report.host_bytes),
        "peak": {
            "phase": report.peak.phase,
            "rank": report.peak.rank,
            **({} if report.timeline is None else {"where": report.timeline.where}),
        },
        "grade": report.grade,
        "items": [item_as_dict(item) for item in report.items],
        "device": None
        if device is None
        else {
            "name": device.name,
            "count": report.gpus,
            "memory_bytes": device.memory_bytes,
            "usable_bytes": device.usable_bytes,
            "usable_range_bytes": [device.usable_low, device.usable_high],
            "shared_bytes": device.shared_low if device.shared_bytes else None,
            "basis": device.basis,
        },
        "verdict": plain(report.verdict),
        "headroom_bytes": plain(report.headroom_bytes),
        "capacity": None
        if report.capacity is None
        else plain(report.capacity.to_dict())
        | ({} if report.command == "train" else {"as_placed": report.as_placed}),
        "warnings": list(report.warnings),
        "hints": list(report.hints),
        "advice": list(report.advice),
        "nearest": report.nearest,
        "llmcalc": {"version": report.version, "catalog": report.catalog_date, "call": report.call.shown()},
    }
    return result | _where_there(report, result["model"])


def _where_there(report: Any, model: dict[str, Any]) -> dict[str, Any]:
    """What only some reports have; more of the model is added to its own object."""
    result: dict[str, Any] = {}
    if report.inventory is not None:
        model |= _inventory(report.inventory)
        result["roles"] = report.inventory.by_role()
    if report.command == "train":
        result |= {"timeline": _timeline(report.timeline), "metrics": plain(metrics(report))}
    if report.rl is not None:
        result["rl"] = plain(report.rl.to_dict())
    if report.ranks:
        result["ranks"] = plain(report.ranks)
    if report.alternatives:
        result["alternatives"] = plain(report.alternatives)
    if report.fewest is not None:
        result["fewest_gpus"] = plain(report.fewest)
    if report.together:
        result["together"] = plain(report.together)
    if report.workload:
        result["workload"] = plain(report.workload)
    if report.scheme:
        result["scheme"] = report.scheme
    if report.left_out:
        result["left_out"] = report.left_out
    if report.neighbours:
        result["neighbours"] = [{"name": name, "total_bytes": total} for name, total in report.neighbours]
    if report.cards:
        result["smallest_cards"] = [{"name": name, "memory_bytes": memory} for name, memory in report.cards]
    return result


def _inventory(inventory: Any) -> dict[str, Any]:
    """What `params` tells of a model besides."""
    return {
        "routed_params": inventory.routed_params,
        "layers": inventory.layers,
        "context": inventory.context,
        "family": inventory.family,
        "by_tag": {tag: sum(own.values()) for tag, own in inventory.breakdown("tag", stored=True).items()},
        "unexplained_params": inventory.unexplained_params,
        "stored_note": inventory.stored_note,
    }


def _timeline(made: Any) -> list[dict[str, Any]]:
    """The moments of a step; none for arrays."""
    return [
        {"phase": one.phase, "where": one.where, "total_bytes": plain(one.total), "items": plain(one.held)}
        for one in (made.moments if made is not None else ())
        if not hasattr(one.total, "tolist")
    ]


def metrics(report: Any) -> dict[str, Any]:
    """What each tool would show: tensors, what PyTorch allocates and reserves, the whole process. [B]"""
    parts = {part.name: part.bytes for part in report["runtime"].items}
    made = {"tensors_bytes": report.minimum_bytes}
    total = report.minimum_bytes
    for name, part in (
        ("allocated_bytes", "cuBLAS workspace"),
        ("reserved_bytes", "allocator"),
        ("nvidia_smi_bytes", "CUDA context"),
    ):
        if part in parts:
            total = total + parts[part]
            made[name] = total
    return made


def as_dict(reports: Sequence[Any]) -> dict[str, Any]:
    """The contract's object; for several reports, and formats, a shared heading and rows."""
    first = _one(reports[0])
    if len(reports) == 1 and not reports[0].scheme:
        return first
    return {
        "schema": SCHEMA,
        "command": first["command"],
        "model": first["model"],
        "rows": [_one(report) for report in reports],
    }


def dumps(value: Any) -> str:
    """JSON text, ending in a newline."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
