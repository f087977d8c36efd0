"""`llmcalc.compare`: models, formats, engines and GPUs in one table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from llmcalc.api import ModelLike, vram
from llmcalc.engine_options import OWNERS
from llmcalc.errors import InputError, LlmcalcError, Problems
from llmcalc.report import Call, Report, Reports

AXES = ("quant", "engine", "gpu")
"""Keywords that may name several values, beside the models."""

MOST = 64
"""Rows of a table. [-]"""


class Cell:
    """One row of a comparison.

    Attributes
    ----------
    labels : dict
        Model, quant, engine and GPU as asked.
    report : Report or None
        None where it can't be.
    reason : str
        Why it can't.
    """

    __slots__ = ("labels", "reason", "report")

    def __init__(self, labels: dict[str, Any], report: Report | None, reason: str = "") -> None:
        self.labels, self.report, self.reason = labels, report, reason


class Comparison(Reports):
    """Reports side by side, with the cells that can't be and why.

    Attributes
    ----------
    cells : list of Cell
        All rows in the order asked; the reports among them are the elements.
    axes : list of str
        What the rows differ in.
    """

    def __init__(self, cells: Sequence[Cell], axes: Sequence[str]) -> None:
        super().__init__([cell.report for cell in cells if cell.report is not None])
        self.cells, self.axes = list(cells), list(axes)

    def to_dict(self) -> dict[str, Any]:
        """The contract's JSON as plain Python values, with what was refused."""
        found = super().to_dict()
        if len(self.rows) == 1:  # one of several is left: still rows
            found = {**{key: found[key] for key in ("schema", "command", "model")}, "rows": [found]}
        refused = [{**cell.labels, "reason": cell.reason} for cell in self.cells if cell.report is None]
        return {**found, "refused": refused} if refused else found

    def to_text(self, units: str = "gib", color: bool = False) -> str:
        """What the terminal shows."""
        from llmcalc.render.compare import as_text

        return as_text(self.cells, self.axes, units, color)

    def _table(self, kind: str, units: str) -> str:
        from llmcalc.render.compare import as_table

        return as_table(self.cells, self.axes, kind, units)


def _values(value: Any, what: str) -> list[Any]:
    """The values of one keyword: a list, or a text with commas."""
    if value is None:
        return [None]
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)):
        return [found]
    values = [one.strip() if isinstance(one, str) else one for one in found]
    if not values or any(one == "" for one in values):
        raise InputError(f"--{what} {str(value)[:60]!r} has an empty name in it.", f"Write --{what} A,B.")
    return list(dict.fromkeys(values))


def _owned(keywords: dict[str, Any], engine: str | None, engines: Sequence[Any]) -> dict[str, Any]:
    """The keywords of one cell: an option of another engine in the table is no mistake there."""
    return {
        key: value
        for key, value in keywords.items()
        if key not in OWNERS
        or (engine or "none") in OWNERS[key]
        or not any(other in OWNERS[key] for other in engines)
    }


def _cell(labels: dict[str, Any], keywords: dict[str, Any], found: Problems) -> list[Cell]:
    """One estimate; its GPU may stand for several (``auto``)."""
    try:
        asked = {key: labels[key] for key in AXES}
        answer = vram(labels["model"], **keywords, **asked)
    except LlmcalcError as error:
        found.found += [part for part in error.parts or (error,) if str(part) not in map(str, found.found)]
        shown = {key: getattr(value, "name", value) for key, value in labels.items()}
        return [Cell(shown, None, error.problem.replace("\n", " "))]
    reports = answer.rows if isinstance(answer, Reports) else [answer]
    cells = []
    for report in reports:
        report.command, report.later = "compare", None
        cells.append(Cell({**labels, "model": report.model["name"]}, report))
    return cells


def compare(models: Sequence[ModelLike] | ModelLike, **keywords: Any) -> Reports:
    """The memory of several models, formats, engines or GPUs side by side.

    Parameters
    ----------
    models : sequence
        One model or more: anything `llmcalc.model` takes.
    quant, engine, gpu : str or sequence of str, optional
        One or several, as a list or with commas: the table has a row for each combination, at most 64.
    **keywords
        Others of `vram`, the same for all; an option of one engine is left out for the others.

    Returns
    -------
    Reports
        One report for each combination, shown as one table. What an engine refuses is a row of dashes,
        with the reason below.

    Raises
    ------
    LlmcalcError
        If there is nothing to compare, or if all is refused: with the mistakes of all together.

    Examples
    --------
    Mixtral-8x7B holds more parameters than Llama-3.1-8B needs and uses fewer than it holds:

    >>> [report.model["active_params"] for report in compare(["llama-3.1-8b", "mixtral-8x7b"])]
    [8030261248, 12879925248]

    Two formats of one model, in GiB of weights:

    >>> found = compare("llama-3.1-8b", quant="q4_k_m,awq")
    >>> [round(report["weights"].bytes / 2**30, 1) for report in found]
    [4.6, 5.3]
    """
    call = Call("compare", {"models": models, **keywords})
    names = list(models) if isinstance(models, (list, tuple)) else [models]
    call.asked["models"] = names
    lists = {key: _values(keywords.pop(key, None), key) for key in AXES}
    number = len(names) * len(lists["quant"]) * len(lists["engine"]) * len(lists["gpu"])
    if number < 2:
        raise InputError(
            "There is nothing to compare.",
            "Name two models or more, or several of --quant, --engine or --gpu: --quant q4_k_m,awq.",
        )
    if number > MOST:
        raise InputError(f"That is a table of {number:,} rows.", f"Compare at most {MOST} at once.")
    problems = Problems()
    cells: list[Cell] = []
    for model, quant, engine, gpu in itertools.product(names, *(lists[key] for key in AXES)):
        labels = {"model": model, "quant": quant, "engine": engine, "gpu": gpu}
        cells += _cell(labels, _owned(keywords, engine, lists["engine"]), problems)
    if all(cell.report is None for cell in cells):
        problems.check()
    for cell in cells:
        if cell.report is not None:
            cell.report.call = call
    axes = [key for key, values in {"model": names, **lists}.items() if len(values) > 1]
    return Comparison(cells, axes)
