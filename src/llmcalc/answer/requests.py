"""Requests in a report: what they need expected, at the 95th percentile and at worst; how many fit."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from llmcalc.demand import Demand
from llmcalc.demand.needs import Charge, Needs, Priced
from llmcalc.estimate import INFERENCE_PHASES, Item, find_peak
from llmcalc.formula import Quantity, is_array
from llmcalc.planning.solve import most_that_fits
from llmcalc.report import Report
from llmcalc.units import format_bytes

CASES = ("expected", "p95", "worst", "over_time")
MOST = 1 << 20
"""Where a search for the most requests ends. [-]"""


def cases_of(
    items: Sequence[Item], needs: Sequence[Needs], ranks: Sequence[str], drafts: Sequence[Item] = ()
) -> list[dict[str, Any]]:
    """What caches and the whole come to in each case.

    Parameters
    ----------
    items : sequence of Item
        Of the estimate, the KV cache at the 95th percentile.
    needs : sequence of Needs
        Of caches and states, one for each rank class. [B]
    ranks : sequence of str
        Names of the rank classes.
    drafts : sequence of Item
        Those that hold a draft's caches, whose needs are among the others.

    Returns
    -------
    list of dict
        ``case``, ``cache_bytes``, ``total_bytes`` and ``range_bytes``. [B]
    """
    rows = []
    for case in CASES:
        amounts = [need.lifetime if case == "over_time" else getattr(need, case) for need in needs]
        if any(amount is None for amount in amounts):
            continue
        changed = [
            _moved(item, [a - need.p95 for a, need in zip(amounts, needs, strict=True)])
            if item.name == "kv_cache"
            else copy(item)
            for item in items
        ]
        peak = find_peak(changed, ranks, INFERENCE_PHASES)
        names = {"kv_cache", "state", *(item.name for item in drafts)}
        kept = sum(item.at_peak for item in changed if item.name in names)
        rows.append(
            {
                "case": case,
                "cache_bytes": kept,
                "total_bytes": peak.total,
                "range_bytes": [peak.low, peak.high],
            }
        )
    return rows


def _moved(item: Item, by: Sequence[Quantity]) -> Item:
    made = copy(item)
    for name in ("amounts", "low", "high"):
        setattr(made, name, tuple(n + more for n, more in zip(getattr(item, name), by, strict=True)))
    return made


def attach_requests(
    report: Report, demand: Demand, cases: list[dict[str, Any]], needs: Sequence[Needs], many: Quantity
) -> None:  # fmt: skip
    """Tell a report what its requests are, each case with its verdict."""
    usual = next((row["cache_bytes"] for row in cases if row["case"] == "p95"), 0)
    for row in cases:
        row["verdict"] = _verdict(report, row, usual)
    report.workload = {
        "requests": many, **demand.to_dict(), "percentile": needs[0].method, "at": "full length",
        "cases": cases,
    }  # fmt: skip
    report.warnings += demand.notes
    if demand.varies:
        report.warnings.append(_told(report, cases))


def _verdict(report: Report, row: dict[str, Any], usual: Quantity) -> Any:
    """The verdict on one case, by what the report goes by itself."""
    (low, high), device = row["range_bytes"], report.device
    if device is None or is_array(low) or is_array(high):
        return None
    low, high = low + report.beside[0], high - report.beside[1]
    surely, never = high <= device.usable_low, low > device.usable_high
    if report.margins is not None:
        least, most = (margin - (row["cache_bytes"] - usual) for margin in report.margins)
        surely, never = least >= 0, most < 0
    return "fits" if surely else "does_not_fit" if never else "too_close"


def _told(report: Report, cases: list[dict[str, Any]]) -> str:
    text = (
        "Figures and verdict are for the 95th percentile of what the requests need together, each at its "
        "full length"
    )
    worst = next(row for row in cases if row["case"] == "worst")
    if not is_array(worst["total_bytes"]):
        expected, most = (format_bytes(row["total_bytes"], "gib") for row in (cases[0], worst))
        text += f" (in all {expected} are expected, {most} at worst)"
    if worst["verdict"] in ("does_not_fit", "too_close") and report.verdict == "fits":
        return f"{text}; at worst it may not fit."
    return f"{text}; one time in twenty they need more."


def requests_of(demand: Demand, many: Any) -> str:
    """Requests for the heading."""
    if is_array(many):
        parts = [f"{int(many.min()):,} to {int(many.max()):,} requests"]
    else:
        parts = [f"{many:,} request{'s' if many != 1 else ''}"]
    if demand.outputs > 1:
        parts[0] += f" x {demand.outputs:,} {'beams' if demand.beams else 'samples'}"
    for name, place in (("prompt", 0), ("output", 1)):
        length = getattr(demand, name)
        joint = len({row[place] for row in demand.pairs}) > 1  # of a file with both columns: said once
        if name in demand.labels:
            parts.append(f"{name} {demand.labels[name]}")
        elif not is_array(length) and length and not joint:
            parts.append(f"{name} {length:,}")
    if demand.prefix:
        parts.append(f"{demand.prefix:,} shared")
    return ", ".join(parts)


def most_requests(priced: Sequence[Priced], budgets: Sequence[int]) -> int | None:
    """The most requests whose 95th percentile every rank holds; None where they cost nothing. [-]"""
    if not any(one.longest for one in priced):
        return None

    def room(many: int) -> int:
        return min(budget - one.p95(many) for one, budget in zip(priced, budgets, strict=True))

    return most_that_fits(room, MOST)


def settle_capacity(
    capacity: Any, demand: Demand, many: int, charges: Sequence[Charge],
    budgets: tuple[Sequence[int], Sequence[int]], most: int,
) -> None:  # fmt: skip
    """Most requests, and the longest that all of them may be with the same output and sharing.

    Parameters
    ----------
    capacity : Capacity
        Whose `max_concurrency`, `max_context` and `safe_context` are set. [-], [tokens]
    demand : Demand
        What each request asks.
    many : int
        Requests of one replica. [-]
    charges : sequence of Charge
        The engine's prices on each rank class.
    budgets : tuple of sequences of int
        Bytes for caches on each rank class: expected, and to be safe. [B]
    most : int
        The longest request to try. [tokens]
    """
    priced = [Priced(demand, charge) for charge in charges]
    capacity.max_concurrency = most_requests(priced, budgets[0])
    for name, own in zip(("max_context", "safe_context"), budgets, strict=True):

        def room(tokens: int, own: Sequence[int] = own) -> int:
            shaped = demand.shaped(tokens)
            return min(b - Priced(shaped, c).p95(many) for b, c in zip(own, charges, strict=True))

        setattr(capacity, name, most_that_fits(room, most))
