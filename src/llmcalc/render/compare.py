"""Several models, formats, engines or GPUs side by side, with dashes where one can't be."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from llmcalc.formula import is_array
from llmcalc.render.rows import notes_of
from llmcalc.render.words import VERDICTS, bare, device_name, reproduce, verdict_of
from llmcalc.units import DISPLAY, format_count

HEADS = {"model": "model", "quant": "format", "engine": "engine", "gpu": "GPU"}
MARK = " *"
SPARE = ("params", "KV, state", "weights", "max context")
"""Columns that a narrow terminal does without, the first to go first."""


def as_text(cells: Sequence[Any], axes: Sequence[str], units: str, color: bool) -> str:
    """The table for a terminal, reasons below."""
    from llmcalc.render.grid import grid
    from llmcalc.render.text import WIDTH, paint, wrap

    head, rows, align = table(cells, axes, units)

    def painted(number: int, column: str, text: str) -> str:
        report = cells[number].report
        return paint(text, report.verdict, color) if column == "verdict" and report is not None else text

    lines = [f"  {line}".rstrip() for line in grid(head, rows, align, WIDTH - 2, SPARE, painted)]
    for place, note in enumerate([*marks(cells, axes), *reasons(cells, axes)]):
        first, *rest = wrap(note, WIDTH - 4)
        lines += [""] if not place else []
        lines += [f"  {first}", *[f"    {line}" for line in rest]]
    phrases = heading(cells, axes)
    return "\n".join([*([] if not phrases else [*_lines(phrases, WIDTH), ""]), *lines]) + "\n"


def _lines(phrases: Sequence[str], width: int) -> list[str]:
    """Phrases on as few lines as hold them."""
    lines = [phrases[0]]
    for phrase in phrases[1:]:
        if len(lines[-1]) + 3 + len(phrase) > width:
            lines.append(f"  {phrase}")
        else:
            lines[-1] += f"   {phrase}"
    return lines


def heading(cells: Sequence[Any], axes: Sequence[str]) -> list[str]:
    """What all rows have in common, and that rows can't differ in."""
    reports = [cell.report for cell in cells if cell.report is not None]
    title, params, weights, *rest = reports[0].header
    engine = rest[:-1]
    varies = {"model": [title, params], "quant": [weights], "engine": engine, "gpu": []}
    own = [word for axis in axes for word in varies[axis]]
    shared = [word for word in reports[0].header if all(word in report.header for report in reports)]
    return [word for word in shared if word not in own]


def as_table(cells: Sequence[Any], axes: Sequence[str], kind: str, units: str) -> str:
    """The table for a document."""
    from llmcalc.render.table import FORMATS, framed

    if kind == "csv":
        return _csv(cells, axes, units)
    from tabulate import tabulate

    head, rows, align = table(cells, axes, units)
    reports = [cell.report for cell in cells if cell.report is not None]
    made = tabulate(rows, head, tablefmt=FORMATS[kind], disable_numparse=True, colalign=align)
    below = [
        *marks(cells, axes),
        *reasons(cells, axes),
        *notes_of(reports, hints=False),
        reproduce(reports[0]),
    ]
    return framed(kind, "   ".join(heading(cells, axes)) or "Compared", made, below)


def table(
    cells: Sequence[Any], axes: Sequence[str], units: str
) -> tuple[list[str], list[list[str]], list[str]]:
    """Heading, rows and alignments: what rows differ in, then the figures."""
    reports = [cell.report for cell in cells if cell.report is not None]
    placed = any(report.device is not None for report in reports)
    lengths = {str(report.scenario.get("context")) for report in reports}
    head = [HEADS[axis] for axis in axes]
    align = ["left"] * len(axes)
    columns = ["params"] if "model" in axes else []
    columns += ["weights", "KV, state", "minimum", f"total {DISPLAY[units][0]}"]
    columns += ["verdict", "max context"] if placed else []
    columns += ["context"] if len(lengths) > 1 else []
    rows = []
    for cell in cells:
        labels = [_label(cell, axis) for axis in axes]
        figures = _figures(cell.report, units) if cell.report is not None else {}
        rows.append([*labels, *[figures.get(column.split(" GiB")[0], "-") for column in _keys(columns)]])
    return [*head, *columns], rows, [*align, *["left" if c == "verdict" else "right" for c in columns]]


def _keys(columns: Sequence[str]) -> list[str]:
    """Names of figures behind headings."""
    return ["total" if column.startswith("total ") else column for column in columns]


def _label(cell: Any, axis: str) -> str:
    """What a row is on one axis."""
    if axis == "gpu" and cell.report is not None and cell.report.device is not None:
        return device_name(cell.report)
    value = cell.labels[axis]
    return str(getattr(value, "name", value)) if value is not None else "-"


def _figures(report: Any, units: str) -> dict[str, str]:
    """The cells of one report by heading."""
    kept = [report[name].bytes_at_peak for name in ("kv_cache", "state") if name in report.names]
    context = report.scenario.get("context")
    found = {
        "params": format_count(report.model["params"]),
        "weights": bare(report["weights"].bytes_at_peak, units),
        "KV, state": bare(sum(kept), units) if kept else "-",
        "minimum": bare(report.minimum_bytes, units),
        "total": bare(report.total_bytes, units) + (MARK if report.mark else ""),
        "context": f"{context:,}" if isinstance(context, int) else "-",
    }
    if report.device is not None:
        verdict = report.verdict
        found["verdict"] = verdict_of(report) if is_array(verdict) else VERDICTS[verdict]
        found["max context"] = _longest(report)
    return found


def _longest(report: Any) -> str:
    capacity = report.capacity
    if capacity is None or is_array(capacity.max_context):
        return "-"
    return "any" if capacity.max_context is None else f"{capacity.max_context:,}"


def marks(cells: Sequence[Any], axes: Sequence[str]) -> list[str]:
    """What sets the marked totals apart, those with one reason together."""
    grouped: dict[str, list[Any]] = {}
    for cell in cells:
        if cell.report is not None and cell.report.mark:
            grouped.setdefault(cell.report.mark, []).append(cell)
    return [f"* {_names(own, cells, axes)}: {mark}" for mark, own in grouped.items()]


def reasons(cells: Sequence[Any], axes: Sequence[str]) -> list[str]:
    """Why cells are dashes, those with one reason together."""
    grouped: dict[str, list[Any]] = {}
    for cell in cells:
        if cell.report is None:
            grouped.setdefault(cell.reason, []).append(cell)
    return [f"{_names(own, cells, axes)}: {reason}" for reason, own in grouped.items()]


def _names(own: Sequence[Any], cells: Sequence[Any], axes: Sequence[str]) -> str:
    """What tells some rows from the others: the one thing that they alone share, else all of each."""
    for axis in axes:
        value = own[0].labels[axis]
        if own == [cell for cell in cells if cell.labels[axis] == value]:
            return _label(own[0], axis)
    return "; ".join(", ".join(_label(cell, axis) for axis in axes) for cell in own)


def _csv(cells: Sequence[Any], axes: Sequence[str], units: str) -> str:
    """A row an item, as of one report, with a column for each thing that rows differ in."""
    from llmcalc.render.table import csv_rows

    out = io.StringIO()
    unit = DISPLAY[units][0]
    writer = csv.writer(out, lineterminator="\n")
    names = ["model", "quant", "engine", "gpu"]
    writer.writerow(
        [*names, "item", f"peak_{unit}", f"low_{unit}", f"high_{unit}", "where", "grade", "verdict", "note"]
    )
    for cell in cells:
        labels = [_label(cell, axis).removeprefix("-") for axis in names]
        report = cell.report
        if report is None:
            writer.writerow([*labels, "refused", "", "", "", "", "", "", cell.reason])
            continue
        for item in report.items:
            csv_rows(writer, [*labels, item.name], item.bytes_at_peak, item.range_bytes, units,
                     [item.where, item.grade, "", item.note])  # fmt: skip
        floor = report.minimum_bytes
        csv_rows(writer, [*labels, "minimum"], floor, (floor, floor), units, ["device", "", "", ""])
        verdict = report.verdict if isinstance(report.verdict, str) else ""
        csv_rows(writer, [*labels, "total"], report.total_bytes, report.range_bytes, units,
                 ["device", report.grade, verdict, reproduce(report)])  # fmt: skip
    return out.getvalue()
