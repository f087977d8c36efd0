"""Starts of servers as tables: errors by engine, release or source, and every figure."""

from __future__ import annotations

from typing import Any

from llmcalc.render.validation import _grouped, _table, linked, percent, signed
from llmcalc.validation.servers import QUANTITIES

NAMES = {
    "kv_bytes_per_token": "KV bytes per token",
    "kv_needed": "KV for a length",
    "kv_tokens": "tokens of a pool",
    "concurrency": "concurrency",
    "longest": "longest request",
    "weights": "weights",
    "activations": "profiled peak",
    "cuda_graphs": "CUDA graphs",
    "non_torch": "beside PyTorch",
    "kv_budget": "KV budget",
}
HEAD = ("quantity", "figures", "refused", "close", "median", "p90", "worst", "in range", "width")
LEGEND = (
    "Errors in %. close: % within 0.5 % (weights 1 %, peak 5 %, budget 1.5 %, graphs and",
    "beside PyTorch 20 %); of what a pool holds also where the last digit of its printed",
    "size explains the rest. Errors of the KV budget are a share of the GPU's memory.",
    "range: % within the predicted one; width: its median. A refusal is a miss.",
)


def drawn(rows: Any) -> list[Any]:
    """The figures in GiB, which one plot can hold."""
    return [row for row in rows if QUANTITIES[row.quantity] == "GiB"]


def _cells(summary: Any) -> list[str]:
    return [
        summary.group, NAMES[summary.quantity], str(summary.rows), str(summary.refused),
        f"{100 * summary.close / summary.rows:.0f} %", percent(summary.median), percent(summary.p90),
        percent(summary.worst), "-" if summary.covered is None else f"{100 * summary.covered:.0f} %",
        percent(summary.width) if summary.width else "-",
    ]  # fmt: skip


def _head(validation: Any) -> tuple[str, ...]:
    return ({"engine": "engine", "version": "releases", "source": "source"}[validation.by], *HEAD)


def number(value: float, quantity: str) -> str:
    """A figure in its unit's usual digits."""
    return f"{value:,.0f}" if QUANTITIES[quantity] in ("B", "tokens") else f"{value:,.2f}"


def text_lines(validation: Any, rows: bool) -> list[str]:
    """For a terminal."""
    lines = _grouped(_head(validation), [_cells(one) for one in validation.server_summaries])
    lines += ["", *(f"  {line}" for line in LEGEND)]
    if rows:
        cells = []
        for row in validation.starts:
            unit = QUANTITIES[row.quantity]
            cells.append([
                row.run["name"], row.run["model"], NAMES[row.quantity] + (f" [{unit}]" if unit else ""),
                number(row.measured, row.quantity),
                "refused" if row.refusal else number(row.predicted, row.quantity), signed(row.error),
            ])  # fmt: skip
        lines += ["", *_table(["run", "model", "quantity", "measured", "predicted", "error"], cells, 3)]
    return lines


def summary_table(validation: Any) -> list[str]:
    """The errors alone, as Markdown."""
    head = _head(validation)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * 2 + "--:|" * (len(head) - 2)]
    return lines + ["| " + " | ".join(_cells(one)) + " |" for one in validation.server_summaries]


def markdown_lines(validation: Any, rows: bool) -> list[str]:
    """For a page."""
    lines = summary_table(validation)
    if rows:
        lines += ["", "| run | build | model | quantity | measured | predicted | error |"]
        lines.append("|---|---|---|---|--:|--:|--:|")
        for row in validation.starts:
            unit = QUANTITIES[row.quantity]
            cells = [
                linked(row.run), row.run["build"], row.run["model"],
                NAMES[row.quantity] + (f" [{unit}]" if unit else ""), number(row.measured, row.quantity),
                "refused" if row.refusal else number(row.predicted, row.quantity), signed(row.error),
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return lines


LOG_NAMES = {
    **NAMES,
    "block": "block of pages",
    "padding": "padding layers",
    "blocks": "blocks of a pool",
    "cpu_blocks": "blocks of swap space",
    "window_tokens": "tokens of the window pool",
    "state_slots": "slots for states",
}


def log_as_text(validation: Any, rows: bool) -> str:
    """What a server printed, line by line, beside what was predicted."""
    from llmcalc.validation.against_vllm import SHOWN

    log, report = validation.log, validation.report
    lines = ["   ".join([f"{log.program} {log.build or ''}".rstrip(), *report.header]), ""]
    cells = []
    for row in validation.rows:
        unit = SHOWN[row.kind]
        digits = 2 if unit in ("GiB", "") else 0
        cells.append([
            ",".join(str(number) for number, _ in row.figure.lines[:4]),
            LOG_NAMES[row.kind] + (f" [{unit}]" if unit else ""), f"{row.printed:,.{digits}f}",
            "-" if row.predicted is None else f"{row.predicted:,.{digits}f}", signed(row.error),
        ])  # fmt: skip
    lines += _table(["line", "what", "printed", "predicted", "error"], cells, 2)
    told = "Tokens, blocks and concurrency are predicted from the printed budget."
    lines += ["", f"  {getattr(log, 'basis', told)}"]
    if rows:
        lines += [
            "",
            *(f"  {number:>6}  {text}" for row in validation.rows for number, text in row.figure.lines),
        ]
    if validation.notes:
        lines += ["", *(f"  {note}" for note in validation.notes)]
    if validation.doubt:
        lines += ["", f"  {validation.doubt}"]
    if log.missing:
        lines += ["", f"  The log lacks {', '.join(log.missing)}."]
    return "\n".join(lines) + "\n"
