"""Validation as tables and as a plot."""

from __future__ import annotations

import textwrap
from typing import Any

NAMES = {
    "weights": "weights on GPUs",
    "kv_cache": "KV cache",
    "state": "recurrent state",
    "activations": "compute buffer",
    "host_activations": "compute buffer, host",
    "host_logits": "output buffer",
    "logits": "output buffer",
    "peak": "peak",
    "devices": "all on GPUs",
}
LOG_NAMES = {**NAMES, "weights": "weights"}
"""In a log the line says where they lie."""

POOLED = ("2024-2026", "activations"), ("2024-2026", "devices")

HEAD = ("builds", "quantity", "figures", "refused", "exact", "median", "p90", "worst", "in range", "width")


def percent(value: float | None) -> str:
    """A relative error in percent, finer where it is small."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if abs(value) < 0.0995 else f"{100 * value:.0f} %"


def signed(value: float | None) -> str:
    """The same with its sign."""
    if value is None:
        return "-"
    text = percent(value)
    return text.removeprefix("-") if float(text.split()[0]) == 0 else ("+" if value > 0 else "") + text


def _cells(summary: Any) -> list[str]:
    return [
        summary.era,
        NAMES[summary.quantity],
        str(summary.rows),
        str(summary.refused),
        str(summary.exact),
        percent(summary.median),
        percent(summary.p90),
        percent(summary.worst),
        f"{100 * summary.covered:.0f} %",
        f"{100 * summary.width:.0f} %",
    ]


def _table(head: Any, rows: list[list[str]], left: int) -> list[str]:
    """Columns of equal width, the first `left` of them to the left."""
    widths = [max(len(row[place]) for row in [list(head), *rows]) for place in range(len(head))]

    def line(cells: Any) -> str:
        parts = [
            f"{cell:<{width}}" if place < left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return ("  " + "  ".join(parts)).rstrip()

    return [line(head), "  " + "-" * (sum(widths) + 2 * len(widths) - 2), *map(line, rows)]


SHORT = {"figures": "n", "refused": "miss", "in range": "range"}


def _grouped(head: Any, rows: list[list[str]]) -> list[str]:
    """A table of 80 columns: rows under the name of their group, percentages without their sign."""
    short = [SHORT.get(word, word) for word in head[1:]]
    plain = [[cell.removesuffix(" %") for cell in row] for row in rows]
    table = _table(short, [row[1:] for row in plain], 1)
    lines, group = table[:2], None
    for row, line in zip(rows, table[2:], strict=True):
        if row[0] != group:
            group = row[0]
            lines.append(f"  {group}")
        lines.append(f"  {line}")
    return ["  " + line for line in lines[:2]] + lines[2:]


def as_text(validation: Any, rows: bool) -> str:
    """The summary, and every figure if asked."""
    from llmcalc.render.servers import text_lines
    from llmcalc.render.training_runs import text_lines as training_lines

    lines = [f"Predictions of llmcalc beside published runs ({validation.date})"]
    if validation.rows:
        lines += [
            "",
            *_grouped(HEAD, [_cells(summary) for summary in validation.summaries]),
            "",
            "  Errors in %; exact: within 0.1 %; range: % measured within the predicted one, to",
            "  the digits printed; width: of it, in %. Years: builds of llama.cpp; ik:",
            "  ik_llama.cpp, a fork. A refusal is a miss.",
            *("  " + line for line in textwrap.wrap(" ".join(honest(validation)), 78)),
        ]
    if validation.starts:
        lines += ["", *text_lines(validation, rows)]
    if validation.trainings:
        lines += ["", *training_lines(validation.trainings, validation.training_summaries, rows)]
    if rows and validation.rows:
        lines += ["", *_table(*_rows(validation), 3)]
    return "\n".join(lines) + "\n"


def _rows(validation: Any) -> tuple[list[str], list[list[str]]]:
    head = ["run", "model", "quantity", "measured", "predicted", "error"]
    cells = []
    for row in validation.rows:
        predicted = "refused" if row.refusal else f"{row.predicted:,.2f}"
        cells.append([
            row.run["name"], row.run["model"], NAMES[row.quantity], f"{row.measured:,.2f}", predicted,
            signed(row.error),
        ])  # fmt: skip
    return head, cells


def honest(validation: Any) -> list[str]:
    """How far compute buffers can be trusted, which a table of medians would hide; nothing for few years."""
    told = {(summary.era, summary.quantity): summary for summary in validation.summaries}
    if not all(key in told for key in POOLED):
        return []
    alone, together = (told[key] for key in POOLED)
    return [
        f"Compute buffers of GPUs in {alone.era}: {alone.exact} of {alone.rows} are exact, yet the 90th "
        f"percentile of their error is {percent(alone.p90)},",
        f"and {100 * (1 - alone.covered):.0f} % lie outside the range, which was meant to hold 90 %. With "
        f"weights, caches and states together it is {percent(together.p90)}.",
    ]


def as_markdown(validation: Any, rows: bool) -> str:
    """A page: the summary, the plot, every figure with its source."""
    from llmcalc.render.servers import markdown_lines
    from llmcalc.render.training_runs import markdown_lines as training_lines

    lines = []
    if validation.rows:
        lines += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * 2 + "--:|" * (len(HEAD) - 2)]
        lines += ["| " + " | ".join(_cells(summary)) + " |" for summary in validation.summaries]
        if told := honest(validation):
            lines += ["", " ".join(told)]
    if validation.rows and rows:
        lines += ["", "| run | build | model | quantity | measured MiB | predicted MiB | error |"]
        lines.append("|---|---|---|---|--:|--:|--:|")
        for row in validation.rows:
            predicted = "refused" if row.refusal else f"{row.predicted:,.2f}"
            lines.append(
                f"| {linked(row.run)} | {row.run['build']} | {row.run['model']} | {NAMES[row.quantity]} "
                f"| {row.measured:,.2f} | {predicted} | {signed(row.error)} |"
            )
    if validation.starts:
        lines += [*([""] if lines else []), *markdown_lines(validation, rows)]
    if validation.trainings:
        lines += [
            *([""] if lines else []),
            *training_lines(validation.trainings, validation.training_summaries, rows),
        ]
    return "\n".join(lines) + "\n"


def linked(run: Any) -> str:
    """A run's name, leading to its source: an address, and what may follow it."""
    name, source = str(run["name"]), str(run["source"])
    address, _, more = source.partition(" ")
    if "://" not in address:
        return name
    return f"[{name}]({address})" + (f" {more}" if more else "")


def as_csv(validation: Any) -> str:
    """A row a figure."""
    import csv
    import io

    stream = io.StringIO()
    rows = [row.to_dict() for row in (*validation.rows, *validation.starts, *validation.trainings)]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["name"]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def as_plot(validation: Any, file: str) -> None:
    """Predicted against measured, one colour a quantity; starts of servers in a panel of their own."""
    from llmcalc.render.plot import matplotlib_figure
    from llmcalc.render.servers import NAMES as SERVER_NAMES
    from llmcalc.render.servers import drawn

    panels = [
        (rows, names, unit)
        for rows, names, unit in (
            (validation.rows, NAMES, "MiB"), (drawn(validation.starts), SERVER_NAMES, "GiB"),
        )
        if rows
    ]  # fmt: skip
    figure = matplotlib_figure(file)(figsize=(6.4 * len(panels), 6.0), layout="constrained")
    for place, (rows, names, unit) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        points = [row for row in rows if not row.refusal and row.measured > 0 and row.predicted > 0]
        for quantity in dict.fromkeys(row.quantity for row in points):
            own = [row for row in points if row.quantity == quantity]
            axes.scatter([r.measured for r in own], [r.predicted for r in own], s=18, alpha=0.7,
                         label=f"{names[quantity]} ({len(own)})")  # fmt: skip
        ends = [
            min(min(row.measured, row.predicted) for row in points) / 2,
            max(max(row.measured, row.predicted) for row in points) * 2,
        ]
        axes.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
        axes.set(
            xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel=f"measured [{unit}]",
            ylabel=f"predicted [{unit}]",
        )  # fmt: skip
        engines = ", ".join(dict.fromkeys(row.run["engine"] for row in rows))
        axes.set_title(f"{engines}: predicted against printed")
        axes.legend(frameon=False)
    figure.savefig(file)


def _wrapped(sentence: str) -> str:
    """A sentence below a table."""
    import textwrap

    return textwrap.fill(sentence, 100, initial_indent="  ", subsequent_indent="    ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def log_as_text(validation: Any, rows: bool) -> str:
    """What was printed, line by line, beside what was predicted."""
    log, report = validation.log, validation.report
    build = f" build {log.build}" if log.build is not None else ""
    title, size, priced, _, workload = report.header
    lines = ["   ".join([f"{log.program}{build}", title, size, priced, workload]), ""]
    cells = []
    for row in validation.rows:
        numbers = ",".join(str(line.number) for line in row.lines[:4])
        predicted = "-" if row.predicted is None else f"{row.predicted:,.2f}"
        cells.append([
            numbers, LOG_NAMES.get(row.kind, row.kind), row.device, f"{row.printed:,.2f}", predicted,
            signed(row.error),
        ])  # fmt: skip
    lines += _table(["line", "what", "where", "printed MiB", "predicted", "error"], cells, 3)
    if rows:
        lines += ["", *(f"  {line.number:>6}  {line.text}" for row in validation.rows for line in row.lines)]
    told = [*([validation.doubt] if validation.doubt else []), *validation.notes]
    if log.missing:
        told.append(f"The log lacks {', '.join(log.missing)}.")
    if told:
        lines += ["", *(_wrapped(sentence) for sentence in told)]
    return "\n".join(lines) + "\n"
