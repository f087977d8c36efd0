"""Figures and grids for documents, frames and ``--explain``."""

from __future__ import annotations

import csv
import io
from typing import Any

from llmcalc import formula
from llmcalc.formula import is_array
from llmcalc.render.explain import section
from llmcalc.render.figures import cells_of, note_of
from llmcalc.render.quantities import quantity


def as_tables(answer: Any, kind: str, units: str) -> str:
    """The figures as one table, each grid as another, and how to make them again."""
    if kind == "csv":
        return _csv(answer)
    from tabulate import tabulate

    from llmcalc.render.table import FORMATS, framed

    shown = [one for one in answer.figures if one.label != "-"]
    rows = [
        [one.label, quantity(one.value, one.unit, units), note_of(one, units), one.grade] for one in shown
    ]
    head, align = ["figure", "value", "how", "grade"], ["left", "right", "left", "left"]
    tables = [tabulate(rows, head, tablefmt=FORMATS[kind], disable_numparse=True, colalign=align)]
    below: list[str] = []
    for grid in answer.grids:
        titles, cells, columns = cells_of(grid, units)
        made = tabulate(cells, titles, tablefmt=FORMATS[kind], disable_numparse=True, colalign=columns)
        tables.append(f"{grid.title}\n\n{made}" if kind == "markdown" and grid.title else made)
        below += grid.below
    again = f"{answer.call.shown()} (llmcalc {answer.version}, catalog {answer.catalog_date})"
    return framed(kind, "   ".join(answer.header), "\n\n".join(tables), [*below, *answer.warnings, again])


def _csv(answer: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["figure", "value", "low", "high", "unit", "grade", "note"])
    for one in answer.figures:
        columns = [list(v.tolist()) if is_array(v) else [v] for v in (one.value, one.low, one.high)]
        length = max(map(len, columns))
        for number in range(length):
            cells = [column[number if len(column) > 1 else 0] for column in columns]
            writer.writerow([one.name, *cells, one.unit, one.grade, one.note])
    for grid in answer.grids:
        writer.writerow([])
        units_ = [(key, unit.partition("|")[0].strip("#")) for key, _, unit in grid.columns]
        writer.writerow([f"{key} [{unit}]" if unit else key for key, unit in units_])
        for row in grid.rows:
            writer.writerow([row.get(key) for key, _, _ in grid.columns])
    return out.getvalue()


def as_frame(answer: Any) -> Any:
    """A row a figure; with array inputs a row an element and a column a figure."""
    import pandas as pd

    swept = [one for one in answer.figures if is_array(one.value)]
    if swept:
        import numpy as np

        length = max(len(np.ravel(one.value)) for one in swept)
        given = {key: value for key, value in answer.scenario.items() if is_array(value)}
        columns = {key: np.broadcast_to(np.ravel(value), length) for key, value in given.items()}
        columns |= {one.name: np.broadcast_to(np.ravel(one.value), length) for one in swept}
        return pd.DataFrame(columns)
    keys = ("value", "low", "high", "unit", "grade", "formula", "source", "note")
    rows = [{"figure": one.name, **{key: getattr(one, key) for key in keys}} for one in answer.figures]
    return pd.DataFrame(rows).set_index("figure")


def as_explanation(answer: Any, units: str = "gib") -> str:
    """Each figure with its formula in symbols and in numbers, its validity and its source."""
    lines = ["How these numbers come about", ""]
    for one in answer.figures:
        lines += _figure(one, units)
    lines.append("inputs as resolved:")
    for key, value in answer.scenario.items():
        if value is not None:
            told = f"[{len(value):,} values]" if is_array(value) else _value(value)
            lines.append(f"  {key} = {told}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _figure(one: Any, units: str) -> list[str]:
    name = one.name.replace("_", " ") if one.label == "-" else one.label
    lines = [f"{name}: {quantity(one.value, one.unit, units)}, {one.grade}"]
    function = formula.REGISTRY.get(one.formula)
    if function is not None:
        lines.append(f"  {one.formula} = {formula.expression(function)}")
        if not any(is_array(value) for value in one.inputs.values()):
            lines.append(f"    = {formula.substituted(function, one.inputs)}")
        validity = section(function, "Notes")
        if validity:
            lines.append(f"  validity: {' '.join(validity.split())}")
    elif one.formula:
        inputs = ", ".join(f"{key} = {_value(value)}" for key, value in one.inputs.items())
        lines.append(f"  rule: {one.formula}" + (f" ({inputs})" if inputs else ""))
    told = note_of(one, units)
    lines += [f"  {text}" for text in (told, f"source: {one.source}" if one.source else "") if text]
    return [*lines, ""]
