"""Training runs beside their predictions, as tables."""

from __future__ import annotations

from typing import Any

from llmcalc.render.validation import _table, linked, percent, signed

HEAD = ("method", "quality", "runs", "refused", "below floor", "median", "p90", "worst", "in range", "width")


def _cells(summary: Any) -> list[str]:
    return [
        summary.group, str(summary.quality), str(summary.rows), str(summary.refused),
        str(summary.inconsistent),
        percent(summary.median), percent(summary.p90), percent(summary.worst),
        f"{100 * summary.covered:.0f} %", f"{100 * summary.width:.0f} %",
    ]  # fmt: skip


def failures(rows: list[Any]) -> str:
    """How many of the runs that ran out of memory are predicted to."""
    failed = [row for row in rows if row.out_of_memory]
    over = sum(row.too_large for row in failed)
    return f"Of {len(failed)} runs that ran out of memory, {over} are predicted above their card."


def text_lines(rows: list[Any], summaries: list[Any], listed: bool) -> list[str]:
    """The summary for a terminal, and every run if asked."""
    lines = [
        "Training",
        "",
        *_table(HEAD, [_cells(summary) for summary in summaries], 2),
        "",
        "  quality 1: every setting is published; 2: some are inferred. Below floor: a published peak that",
        "  could not hold weights, gradients and states, and is not counted. A refusal counts as a miss.",
        f"  {failures(rows)}",
    ]
    if listed:
        head = ["run", "model", "method", "quality", "measured GiB", "predicted", "error", "peak"]
        lines += ["", *_table(head, [_row(row) for row in rows], 3)]
    return lines


def _row(row: Any) -> list[str]:
    predicted = "refused" if row.refusal else f"{row.predicted:,.2f}"
    measured, error = f"{row.measured:,.2f}", signed(row.error)
    if row.out_of_memory:
        measured = "out of memory" if row.refusal else f"> {measured}"
        error = "above" if row.too_large else "below"
    elif not row.consistent:
        error = "below floor"
    quality = str(row.run.get("quality") or "-")
    return [
        row.run["name"], row.run["model"], row.run["group"], quality, measured, predicted, error,
        row.phase or "-",
    ]  # fmt: skip


def markdown_lines(rows: list[Any], summaries: list[Any], listed: bool) -> list[str]:
    """The same as tables of a page, every run with its source."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * 2 + "--:|" * (len(HEAD) - 2)]
    lines += ["| " + " | ".join(_cells(summary)) + " |" for summary in summaries]
    lines += ["", failures(rows)]
    if listed:
        lines += [
            "",
            "| run | program | model | method | quality | measured GiB | predicted GiB | error | peak |",
        ]
        lines.append("|---|---|---|---|--:|--:|--:|--:|---|")
        for row in rows:
            _, model, *cells = _row(row)
            told = [linked(row.run), row.run["program"], model, *cells]
            lines.append("| " + " | ".join(told) + " |")
    return lines
