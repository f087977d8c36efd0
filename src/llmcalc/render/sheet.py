"""Facts and tables as text, documents, CSV, explanations and pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from llmcalc.render.grid import grid

WIDTH = 80
LABEL, VALUE, GRADE = 18, 18, 10
"""Columns of a line. [characters]"""


def as_text(sheet: Any) -> str:
    """The block that a terminal shows."""
    lines = [*_heading(sheet.header), ""]
    for fact in sheet.facts:
        lines += _fact(fact)
    for table in sheet.tables:
        lines += ["", *([f"  {table.title}"] if table.title else [])] if lines[-1] else [f"  {table.title}"]
        rows = grid(
            table.head, table.rows, _align(table), WIDTH - 2, table.spare, wrapped=table.wrapped, split=False
        )
        lines += [f"  {line}".rstrip() for line in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _heading(phrases: Sequence[str]) -> list[str]:
    lines, line = [], ""
    for phrase in phrases:
        if line and len(line) + 3 + len(phrase) > WIDTH:
            lines.append(line)
            line = f"  {phrase}"
        else:
            line = f"{line}   {phrase}" if line else phrase
    return [*lines, line]


def _fact(fact: Any) -> list[str]:
    """Label, value, note on as many lines as it takes, and the grade."""
    room = WIDTH - 2 - LABEL - VALUE - GRADE
    if len(fact.value) > VALUE - 1:
        text = f"{fact.value}   {fact.note}".strip()
        first, *rest = textwrap.wrap(text, WIDTH - 2 - LABEL - GRADE, break_on_hyphens=False) or [""]
        indent, wide = LABEL + 2, WIDTH - 2 - LABEL - GRADE
        lines = [f"  {fact.label:<{LABEL}}{first:<{wide}}{fact.grade:>{GRADE}}"]
    else:
        first, *rest = textwrap.wrap(fact.note, room - 1, break_on_hyphens=False) or [""]
        indent = LABEL + VALUE + 2
        lines = [f"  {fact.label:<{LABEL}}{fact.value:<{VALUE}}{first:<{room}}{fact.grade:>{GRADE}}"]
    return lines + [f"{'':<{indent}}{line}" for line in rest]


def _align(table: Any) -> list[str]:
    """Numbers to the right, words to the left."""
    found = []
    for place in range(len(table.head)):
        cells = [row[place] for row in table.rows if row[place] not in ("", "-")]
        numeric = bool(cells) and all(cell[:1].isdigit() or cell[:1] in "+-" for cell in cells)
        found.append("right" if numeric else "left")
    return found


def reproduce(sheet: Any) -> str:
    """The line that lets a reader repeat a table."""
    assumed = "; ".join(f"{fact.label} ({fact.note})" for fact in sheet.facts if fact.grade == "assumed")
    return (
        f"{sheet.call.shown()} (llmcalc {sheet.version}, catalog {sheet.catalog_date}; "
        f"assumed: {assumed or 'none'})"
    )


def as_document(sheet: Any, kind: str) -> str:
    """Tables for a document, ended by how to reproduce them."""
    from tabulate import tabulate

    from llmcalc.render.table import FORMATS, framed

    rows = [[fact.label, fact.value, fact.note, fact.grade] for fact in sheet.facts]
    parts = []
    if rows:
        parts.append(
            tabulate(rows, ["", "value", "how", "grade"], tablefmt=FORMATS[kind], disable_numparse=True)
        )
    for table in sheet.tables:
        parts.append(
            tabulate(
                table.rows, table.head, tablefmt=FORMATS[kind], disable_numparse=True, colalign=_align(table)
            )
        )
    notes = [*sheet.warnings, *sheet.left_out, reproduce(sheet)]
    return framed(kind, "   ".join(sheet.header), "\n\n".join(parts), notes)


def as_csv(sheet: Any) -> str:
    """A row a law."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if sheet.frame:
        head = list(sheet.frame[0])
        writer.writerow([*head, "call"])
        for row in sheet.frame:
            writer.writerow([*("" if row[key] is None else row[key] for key in head), reproduce(sheet)])
    return out.getvalue()


def as_explanation(sheet: Any) -> str:
    """Each line with its formula in symbols and in numbers, where these come from, validity and source."""
    from llmcalc import formula
    from llmcalc.render.explain import cited, section

    lines = ["How these numbers come about", ""]
    for fact in sheet.explained or sheet.facts:
        lines.append(f"{fact.label}: {fact.value}" + (f", {fact.grade}" if fact.grade else ""))
        function = formula.REGISTRY.get(fact.formula)
        if function is not None:
            lines.append(f"  {fact.formula} = {formula.expression(function)}")
            lines.append(f"    = {formula.substituted(function, fact.inputs)}")
            for key, value in fact.inputs.items():
                origin = fact.origins.get(key) or sheet.origins.get(key, "derived")
                lines.append(f"    {key} = {_value(value)}  ({origin})")
            validity = section(function, "Notes")
            if validity:
                lines.append(f"  validity: {' '.join(validity.split())}")
        elif fact.formula:
            lines.append(f"  rule: {fact.formula}")
        if fact.note:
            lines.append(f"  {fact.note}")
        if fact.source:
            lines.append(f"  source: {cited(sheet, fact.source)}")
        lines.append("")
    lines.append("inputs as resolved:")
    for key, value in sheet.data.get("scenario", {}).items():
        if value is not None:
            lines.append(f"  {key} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def as_plot(sheet: Any, file: str | None = None) -> Any:
    """Draw what the answer can draw; return the figure, and save it where `file` is given."""
    from llmcalc.errors import InputError
    from llmcalc.render.plot import matplotlib_figure, picture, saved

    if sheet.drawing is None:
        raise InputError(f"This {sheet.command} has nothing to draw.", "Leave --plot out.")
    figure = picture(matplotlib_figure(file))(figsize=(11, 4.5), layout="constrained")
    sheet.drawing(figure)
    return saved(figure, file)
