"""``--explain``: for each line the formula in symbols, with values, their origin, validity and source."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from llmcalc import formula
from llmcalc.formula import is_array
from llmcalc.render.words import amount, label

STATES = ("recurrent_state_bytes", "conv_state_bytes")
"""Formulas whose element size is the model's, not the KV cache's."""


def as_explanation(reports: Sequence[Any], units: str = "gib") -> str:
    """All lines of all reports explained."""
    return "\n".join(_report(report, units) for report in reports)


def _report(report: Any, units: str) -> str:
    lines = ["How these numbers come about", "", f"model: {report.read_from}", ""]
    if report.scheme:
        lines[2:2] = [f"format: {report.scheme['name']}"]
    for item in report.items:
        lines += _item(report, item, label(report, item), units)
    lines.append(
        f"total: the largest sum of what is alive: phase {report.peak.phase}, rank {report.peak.rank}."
    )
    lines.append("inputs as resolved:")
    for key, value in report.scenario.items():
        if value is not None:
            lines.append(f"  {key} = {_value(value)}  ({report.origins.get(key, 'derived')})")
    if report.device is not None:
        lines.append(f"{report.device.name}: usable memory is {report.device.basis}.")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if is_array(value):
        return f"[{len(value):,} values]"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _item(report: Any, item: Any, name: str, units: str, depth: int = 0, told: str = "") -> list[str]:
    """One line and its parts; a source is told in full once."""
    pad = "  " * depth
    lines = [f"{pad}{name}: {amount(item.bytes, units)}, {item.grade}"]
    function = formula.REGISTRY.get(item.formula)
    if function is not None and not item.items:
        lines.append(f"{pad}  {item.formula} = {formula.expression(function)}")
        lines.append(f"{pad}    = {formula.substituted(function, item.inputs)}")
        for key, value in item.inputs.items():
            fixed = item.formula in STATES and key != "sequences"
            origin = "the model" if fixed else _origin(report, item, key)
            lines.append(f"{pad}    {key} = {_value(value)}  ({origin})")
        validity = section(function, "Notes")
        if validity:
            lines.append(f"{pad}  validity: {' '.join(validity.split())}")
    elif item.formula and item.formula != "none":
        inputs = ", ".join(f"{key} = {_value(value)}" for key, value in item.inputs.items())
        lines.append(f"{pad}  rule: {item.formula}" + (f" ({inputs})" if inputs else ""))
    if item.note:
        lines.append(f"{pad}  {item.note}")
    if item.source:
        lines.append(f"{pad}  source: {item.source if item.source == told else cited(report, item.source)}")
    lines.append(f"{pad}  alive in {', '.join(item.phases)}; on {item.where}")
    for part in item.items:
        lines += _item(report, part, part.name, units, depth + 1, item.source)
    return [*lines, ""] if not depth else lines


def _origin(report: Any, item: Any, key: str) -> str:
    """Where an input came from: of a packed format the scheme says its bits."""
    scheme = report.scenario.get("quant")
    if item.formula == "weight_bytes" and key == "bits" and scheme and item.name != report.scenario["dtype"]:
        return f"the scheme {scheme}" if scheme != "none" else "the tensors' own format"
    if item.formula == "weight_bytes" and key == "parameters" and " (" in item.name:
        return "the scheme's layout of the model's matrices"
    return str(report.origins.get(key, "the model"))


def cited(report: Any, source: str) -> str:
    """A source in full, where the text is a list of ids of the catalog."""
    if report.book is None:
        return source
    told = []
    for name in source.split(", "):
        entry = report.book.lookup("sources", name)
        told.append(name if entry is None else f"{entry['title']}; {entry['reference']} ({name})")
    return "; ".join(told) if any(" (" in one for one in told) else source


def section(function: Any, name: str) -> str:
    """One section of a numpydoc docstring."""
    lines = (inspect.getdoc(function) or "").split("\n")
    for index, line in enumerate(lines[:-1]):
        if line == name and set(lines[index + 1]) == {"-"}:
            body = []
            for number in range(index + 2, len(lines)):
                if number + 1 < len(lines) and lines[number + 1] and set(lines[number + 1]) == {"-"}:
                    break
                body.append(lines[number])
            return "\n".join(body).strip()
    return ""


def formula_text(name: str) -> str:
    """One formula: its expression and its documentation."""
    function = formula.get(name)
    signature = ", ".join(inspect.signature(inspect.unwrap(function)).parameters)
    return (
        f"{function.__name__}({signature})\n  = {formula.expression(function)}\n\n"
        f"{inspect.getdoc(function)}\n"
    )


def formula_list() -> str:
    """All formulas, one line each."""
    width = max(map(len, formula.REGISTRY))
    lines = []
    for name, function in sorted(formula.REGISTRY.items()):
        summary = (inspect.getdoc(function) or "").split("\n")[0]
        lines.append(f"  {name:<{width}}  {summary}")
    return "\n".join(lines) + "\n"
