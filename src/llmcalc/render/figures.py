"""Figures and grids on the terminal, and as plain values."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import is_array
from llmcalc.render.quantities import PREFIXES, number, quantity
from llmcalc.render.text import WIDTH, wrap

LEAST_NOTE = 14


def as_text(answer: Any, units: str = "gib") -> str:
    """Heading, figures under their sections, grids behind the section they belong to."""
    lines = [*_heading(answer.header)]
    sections = list(dict.fromkeys(one.section for one in answer.figures))
    placed = set()
    for section in sections:
        own = [one for one in answer.figures if one.section == section and one.label != "-"]
        grids = [grid for grid in answer.grids if grid.name == section]
        placed |= {grid.name for grid in grids}
        lines += ["", *([f"  {section}"] if section and own else []), *figure_lines(own, units)]
        for grid in grids:
            lines += ["", *grid_lines(grid, units)]
    for grid in answer.grids:
        if grid.name not in placed:
            lines += ["", *grid_lines(grid, units)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _heading(phrases: list[str]) -> list[str]:
    """The echo of what was understood, wrapped at phrases."""
    lines, line = [], ""
    for phrase in phrases:
        if line and len(line) + 3 + len(phrase) > WIDTH:
            lines.append(line)
            line = "  " + phrase
        else:
            line = f"{line}   {phrase}" if line else phrase
    return [*lines, line]


def spanned(one: Any, units: str = "gib") -> str:
    """A figure's range in words; empty where it has none."""
    if is_array(one.low) or is_array(one.high) or (one.low == one.value and one.high == one.value):
        return ""
    low, high = quantity(one.low, one.unit, units), quantity(one.high, one.unit, units)
    number_, _, unit = low.partition(" ")
    return f"{number_ if unit and high.endswith(f' {unit}') else low} to {high}"


def note_of(one: Any, units: str = "gib") -> str:
    """What stands beside a figure: its range, and a few words."""
    return "; ".join(part for part in (spanned(one, units), one.note) if part)


def figure_lines(figures: list[Any], units: str) -> list[str]:
    """One line a figure: label, value, note, grade."""
    if not figures:
        return []
    values = [quantity(one.value, one.unit, units) for one in figures]
    label = max(14, *(len(one.label) for one in figures))
    wide = max(map(len, values))
    grade = max(len(one.grade) for one in figures)
    room = max(WIDTH - 2 - label - 2 - wide - 2 - grade - 1, LEAST_NOTE)
    lines = []
    for one, value in zip(figures, values, strict=True):
        notes = wrap(note_of(one, units), room)
        lines.append(f"  {one.label:<{label}}  {value:>{wide}}  {notes[0]:<{room}} {one.grade}")
        lines += [f"{'':{2 + label + 2 + wide + 2}}{note}" for note in notes[1:]]
    return lines


def cells_of(grid: Any, units: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Heading, cells and alignment of a grid."""
    head = [title for _, title, _ in grid.columns]
    align = ["right" if unit else "left" for _, _, unit in grid.columns]
    rows = [[_cell(row.get(key), unit, units) for key, _, unit in grid.columns] for row in grid.rows]
    return head, rows, align


def _cell(value: Any, unit: str, units: str) -> str:
    if value is None:
        return "-"
    if not unit or isinstance(value, str):
        return str(value)
    base, _, prefix = unit.partition("|")
    if prefix:  # the heading names the unit
        return number(value / next(factor for factor, name in PREFIXES if name == prefix))
    return quantity(value, "" if base == "#" else base, units)


def grid_lines(grid: Any, units: str) -> list[str]:
    """A table of 80 columns; the last column of words takes what is left."""
    head, rows, align = cells_of(grid, units)
    widths = [max(len(line[n]) for line in [head, *rows]) for n in range(len(head))]
    last = len(head) - 1
    room = WIDTH - 2 - sum(widths[:-1]) - 2 * last
    wrapped = align[-1] == "left" and widths[-1] > room
    if wrapped:
        widths[-1] = max(room, LEAST_NOTE)
    lines = [f"  {grid.title}"] if grid.title else []
    for place, row in enumerate([head, *rows]):
        tail = wrap(row[-1], widths[-1]) if wrapped else [row[-1]]
        cells = [*row[:-1], tail[0]]
        lines.append("  " + "  ".join(_pad(c, w, a) for c, w, a in zip(cells, widths, align, strict=True)))
        indent = " " * (2 + sum(widths[:-1]) + 2 * last)
        lines += [indent + more for more in tail[1:]]
        if not place:
            lines.append("  " + "-" * min(WIDTH - 4, sum(widths) + 2 * last))
    for below in grid.below:
        lines += [f"  {line}" for line in wrap(below, WIDTH - 4)]
    return lines


def _pad(text: str, width: int, align: str) -> str:
    return text.rjust(width) if align == "right" else text.ljust(width)


def as_dict(answer: Any) -> dict[str, Any]:
    """Plain values: figures by name, grids by name."""
    from llmcalc.render.data import SCHEMA, plain

    return {
        "schema": SCHEMA,
        "command": answer.command,
        "model": plain(answer.model),
        "scenario": plain(answer.scenario),
        "figures": {
            one.name: {
                "value": plain(one.value),
                "range": [plain(one.low), plain(one.high)],
                "unit": one.unit,
                "grade": one.grade,
                "section": one.section,
                "label": one.label,
                "note": one.note,
                "formula": one.formula,
                "inputs": plain(one.inputs),
                "source": one.source,
            }
            for one in answer.figures
        },
        "tables": {
            grid.name: {
                "title": grid.title,
                "units": {key: unit.partition("|")[0].strip("#") for key, _, unit in grid.columns},
                "rows": [plain(row) for row in grid.rows],
                "notes": list(grid.below),
            }
            for grid in answer.grids
        },
        "warnings": list(answer.warnings),
        "hints": list(answer.hints),
        "llmcalc": {
            "version": answer.version, "catalog": answer.catalog_date, "call": answer.call.shown(),
        },
    }  # fmt: skip
