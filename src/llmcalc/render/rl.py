"""An iteration of reinforcement learning: tables of its phases, the models, the classes of GPUs."""

from __future__ import annotations

from typing import Any

from llmcalc.units import DISPLAY, format_count

PHASES = {
    "sync": "weight sync",
    "rollout": "rollout",
    "reward": "reward",
    "log_probs": "log-probabilities",
    "reference": "reference",
    "values": "values",
    "critic_update": "critic update",
    "policy_update": "policy update",
}
VERDICTS = {"fits": "FITS", "does_not_fit": "DOES NOT FIT", "too_close": "CLOSE", None: "-"}

Table = tuple[list[str], list[list[str]], list[str]]
"""Heading, rows, and the alignment of each column."""


def words(phase: Any) -> str:
    """A phase as it is shown.

    Examples
    --------
    >>> words("log_probs"), words("backward")
    ('log-probabilities', 'backward')
    """
    return PHASES.get(phase, str(phase).replace("_", " "))


def tables(report: Any, units: str) -> list[Table]:
    """Phases, roles, and classes of GPUs where there are several."""
    told, unit = report.rl, DISPLAY[units][0]
    found = [_phases(told, unit, units), _roles(told, unit, units)]
    return [*found, _classes(told, unit, units)] if len(told.classes) > 1 else found


def rl_lines(report: Any, units: str) -> list[str]:
    """The tables in text."""
    lines: list[str] = []
    for head, rows, align in tables(report, units):
        widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
        for row in [head, *rows]:
            cells = [
                cell.rjust(width) if side == "right" else cell.ljust(width)
                for cell, width, side in zip(row, widths, align, strict=True)
            ]
            lines.append(f"  {'  '.join(cells)}".rstrip())
        lines.append("")
    return lines


def _phases(told: Any, unit: str, units: str) -> Table:
    from llmcalc.render.words import bare

    first, rows = told.classes[0]["name"], []
    for row in told.phases:
        name = words(row["phase"]) + ("" if row["class"] == first else f" ({row['class']})")
        mark = " <- peak" if row["is_peak"] else ""
        rows.append([name, bare(row["tensor_bytes"], units), row["where"] + mark])
    return ["phase", f"tensors {unit}", "at its largest moment"], rows, ["left", "right", "left"]


def _roles(told: Any, unit: str, units: str) -> Table:
    from llmcalc.render.words import bare

    head = ["role", "params", "trained", f"idle {unit}", "at most", "at peak", "model"]
    waits = any(row["waiting_bytes"] for row in told.roles)
    rows = []
    for row in told.roles:
        keys = ("resident_bytes", "peak_bytes", "bytes_at_peak", *(["waiting_bytes"] if waits else []))
        rows.append(
            [
                row["role"],
                format_count(row["params"]),
                format_count(row["trained_params"]) if row["trained_params"] else "-",
                *(bare(row[key], units) for key in keys),
                "the policy's weights" if row["shares_weights"] else row["model"],
            ]
        )
    if waits:
        head.insert(-1, "on host")
    return head, rows, ["left", *["right"] * (len(head) - 2), "left"]


def _classes(told: Any, unit: str, units: str) -> Table:
    from llmcalc.render.words import bare

    rows = []
    for row in told.classes:
        free = "-" if row["headroom_bytes"] is None else bare(row["headroom_bytes"], units)
        cells = [row["name"], f"{row['gpus']:,}", bare(row["total_bytes"], units), free]
        rows.append([*cells, VERDICTS[row["verdict"]], words(row["phase"])])
    head = ["GPUs", "number", f"needs {unit}", "free", "verdict", "peak in"]
    return head, rows, ["left", "right", "right", "right", "left", "left"]
