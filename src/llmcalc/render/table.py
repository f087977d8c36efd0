"""Tables for documents: markdown, LaTeX, HTML and CSV. Each ends with how to reproduce it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from llmcalc.formula import is_array
from llmcalc.render.rows import comparison, gpu_names, hardware_notes, heading, notes_of
from llmcalc.render.words import amount, bare, device_name, label, reproduce, verdict_of
from llmcalc.units import DISPLAY

FORMATS = {"markdown": "github", "latex": "latex_booktabs", "html": "html"}


def as_table(reports: Sequence[Any], kind: str, units: str) -> str:
    """Reports as one table: items of one report, or one row a GPU of several."""
    if kind == "csv":
        return _csv(reports, units)
    from tabulate import tabulate

    if len(reports) == 1 and not reports[0].scheme:
        head, rows, below = _item_rows(reports[0], units)
        columns = _align(head)
    else:
        head, rows, columns = comparison(reports, units)
        below = [*hardware_notes(reports), *notes_of(reports, hints=False)]
    table = tabulate(rows, head, tablefmt=FORMATS[kind], disable_numparse=True, colalign=columns)
    if len(reports) == 1 and reports[0].rl is not None:
        from llmcalc.render.rl import tables

        for head, rows, columns in tables(reports[0], units):
            more = tabulate(rows, head, tablefmt=FORMATS[kind], disable_numparse=True, colalign=columns)
            table += f"\n\n{more}"
    placed = reports[0].placement if len(reports) == 1 and not reports[0].scheme else []
    one_model = len({report.model["name"] for report in reports}) == 1
    title = "   ".join([*heading(reports), *placed]) if one_model else "Models compared"
    return framed(kind, title, table, [*below, reproduce(reports[0])])


def _align(head: Sequence[str]) -> list[str]:
    return ["left", "right", *["left"] * (len(head) - 2)]


def _item_rows(report: Any, units: str) -> tuple[list[str], list[list[str]], list[str]]:
    unit = DISPLAY[units][0]
    rows = []
    for item in report.items:
        rows.append([label(report, item), bare(item.bytes_at_peak, units), item.note, item.grade])
    rows.append(["total", bare(report.total_bytes, units), _range(report, units), report.grade])
    below = []
    if report.device is not None:
        below.append(
            f"{device_name(report)}: {amount(report.device.usable_bytes, units)} usable "
            f"({report.device.basis}); {verdict_of(report)}."
        )
    below += [f"Advice: {line}." for line in report.advice]
    return ["item", unit, "how", "grade"], rows, below + list(report.warnings)


def _range(report: Any, units: str) -> str:
    low, high = report.range_bytes
    words = [] if is_array(report.total_bytes) or units == "gb" else [amount(report.total_bytes, "gb")]
    return ", ".join([*words, f"range {amount(low, units)} to {amount(high, units)}"])


def framed(kind: str, title: str, table: str, below: Sequence[str]) -> str:
    """A table with its title and what stands below it."""
    if kind == "markdown":
        return "\n\n".join([f"**{title}**", table, *[f"<sub>{line}</sub>" for line in below]]) + "\n"
    if kind == "html":
        import html

        notes = "".join(f"<p><small>{html.escape(line)}</small></p>\n" for line in below)
        return f"<p><b>{html.escape(title)}</b></p>\n{table}\n{notes}"
    escaped = [_tex(line) for line in below]
    return "\n".join([f"% {title}", table, *[f"\\par\\footnotesize {line}" for line in escaped]]) + "\n"


def _tex(text: str) -> str:
    return "".join({"\\": "\\textbackslash{}"}.get(c, f"\\{c}" if c in "#$%&_{}" else c) for c in text)


def _csv(reports: Sequence[Any], units: str) -> str:
    out = io.StringIO()
    unit = DISPLAY[units][0]
    writer = csv.writer(out, lineterminator="\n")
    if reports[0].scheme:
        return _scheme_csv(reports, out, writer)
    writer.writerow(
        ["model", "gpu", "item", f"peak_{unit}", f"low_{unit}", f"high_{unit}", "where", "grade", "note"]
    )
    for report in reports:
        device = report.device.name if report.device is not None else ""
        name = report.model["name"]
        for item in report.items:
            csv_rows(writer, [name, device, item.name], item.bytes_at_peak, item.range_bytes, units,
                      [item.where, item.grade, item.note])  # fmt: skip
        csv_rows(writer, [name, device, "total"], report.total_bytes, report.range_bytes, units,
                  ["device", report.grade, reproduce(report)])  # fmt: skip
    return out.getvalue()


def _scheme_csv(reports: Sequence[Any], out: io.StringIO, writer: Any) -> str:
    """A row a format: all figures in bytes and bits, a verdict for each GPU."""
    first = reports[0].scheme
    keys = [key for key in first if key not in ("fits", "note", "source")]
    gpus = gpu_names(reports)
    writer.writerow(["model", *keys, "smallest_card", *gpus])
    for report in reports:
        cells = [report.scheme[key] for key in keys]
        card = report.cards[0][0] if report.cards else ""
        verdicts = [fit["verdict"] for fit in report.scheme["fits"]]
        writer.writerow([report.model["name"], *cells, card, *verdicts])
    return out.getvalue()


def csv_rows(
    writer: Any, head: list[str], value: Any, span: Sequence[Any], units: str, tail: list[str]
) -> None:
    """One row, or one for each element of an array."""
    columns = [list(one.tolist()) if is_array(one) else [one] for one in (value, *span)]
    length = max(map(len, columns))
    columns = [column * length if len(column) == 1 else column for column in columns]
    for cells in zip(*columns, strict=True):
        writer.writerow([*head, *[_number(one, units) for one in cells], *tail])


def _number(value: int, units: str) -> str:
    factor = DISPLAY[units][1]
    return str(value) if factor == 1 else f"{value / factor:.6f}"
