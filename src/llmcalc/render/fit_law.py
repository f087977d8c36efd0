"""A fitted law as text, tables and a page."""

from __future__ import annotations

import math
from typing import Any

from llmcalc.render.grid import grid
from llmcalc.units import format_count

WIDTH = 80
LISTED = 5
"""Outliers and heavy rows that text lists. [-]"""


# -- words --------------------------------------------------------------------------------------


def figure(value: float | None, digits: int = 5) -> str:
    """A number with some digits.

    Examples
    --------
    >>> figure(2143.41736), figure(0.347310499, 4), figure(4.76e12), figure(None)
    ('2143.4', '0.3473', '4.76e+12', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    if value and not 1e-4 <= abs(value) < 10 ** max(digits, 6):
        return f"{value:.{digits - 1}g}" if f"{value:.{digits - 1}e}".rstrip("0") else "0"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0) if value else digits - 1
    return f"{value:.{places}f}"


def span(ends: Any, digits: int = 5) -> str:
    """An interval in words."""
    return "-" if ends is None else f"{figure(ends[0], digits)} to {figure(ends[1], digits)}"


def counts(ends: Any) -> str:
    """An interval of parameters or tokens: one unit where both ends have it."""
    if ends is None or not all(math.isfinite(one) for one in ends):
        return "-"
    low, high = (format_count(one) for one in ends)
    if low.split()[-1:] == high.split()[-1:] and " " in low:
        low = low.split()[0]
    return f"{low} to {high}"


def percent(value: float) -> str:
    """A relative error.

    Examples
    --------
    >>> percent(0.0105), percent(-0.3)
    ('1.05 %', '-30 %')
    """
    return f"{100 * value:.2f} %" if abs(value) < 0.0995 else f"{100 * value:.0f} %"


def heading(fit: Any) -> list[str]:
    """What was fitted to what."""
    name = fit.title if fit.approach in (None, 3) else f"Approach {fit.approach}"
    return [name, fit.text, f"{len(fit.data):,} rows"]


def settings(fit: Any) -> list[str]:
    """How it was fitted, sentence by sentence."""
    told = [f"Estimator: {fit.estimator}."]
    held = {
        name: value
        for name, value in fit.settings["fixed"].items()
        if not (fit.form == "moe" and name in ("E_start", "E_max"))
    }
    if held:
        told.append("Held: " + ", ".join(f"{name} = {value:g}" for name, value in held.items()) + ".")
    if fit.settings["tied"]:
        told.append("beta is alpha.")
    if fit.form == "power-law":
        told.append(f"X is the {fit.settings['along']}.")
    convention = fit.reading.convention
    told.append(
        f"Parameters: {convention}."
        if convention
        else "How parameters are counted is not stated (--params-convention)."
    )
    if fit.resamples:
        what = {1: "runs", 2: "rows within budgets", None: "optima"}.get(
            fit.approach, fit.settings["resample"]
        )
        told.append(f"Bootstrap: {fit.resamples:,} resamples of {what}, seed {fit.settings['seed']}.")
    else:
        told.append("No bootstrap, so no intervals.")
    return told


def quality(fit: Any) -> list[str]:
    """The objective, the residuals and the test on the largest runs."""
    if fit.lines is not None:
        used = len(fit.lines.compute)
        return [f"The line goes through {used} optima."] if fit.approach != 1 else []
    import numpy as np

    size = np.abs(fit.residuals)
    log = fit.settings["residual"] == "log"
    shown = [percent(float(one)) if log else f"{float(one):.4g}" for one in (np.median(size), size.max())]
    told = [f"Objective {fit.objective:.10g}; residuals {shown[0]} in the median, {shown[1]} at most."]
    held = fit.holdout
    if held is None:
        told.append(f"No test on the largest runs: {fit.no_holdout[:1].lower()}{fit.no_holdout[1:]}")
    else:
        told.append(
            f"Fitted without the {held.held} runs from {held.above:.3g} FLOP it predicts them within "
            f"{percent(held.mean)} (mean; worst {percent(held.worst)}, bias {percent(held.bias)}), "
            f"{held.reach:.3g} times beyond the rest."
        )
    return told


def rows_told(fit: Any) -> list[str]:
    """Outliers and heavy rows."""
    told = []
    if fit.outliers:
        shown = ", ".join(f"{one['place']} ({one['residual']:+.3g})" for one in fit.outliers[:LISTED])
        more = f" and {len(fit.outliers) - LISTED} more" if len(fit.outliers) > LISTED else ""
        told.append(f"Outliers (beyond 5 robust standard deviations): {shown}{more}.")
    if fit.heavy:
        shown = ", ".join(f"{one['place']} ({one['leverage']:.2f})" for one in fit.heavy[:LISTED])
        more = f" and {len(fit.heavy) - LISTED} more" if len(fit.heavy) > LISTED else ""
        told.append(f"Leverage above three times the mean: {shown}{more}.")
    return told


def doubts(fit: Any) -> list[str]:
    """What the data do not settle, and whose parameters these are."""
    return [*fit.doubts, *([f"These are the parameters of {fit.matches}."] if fit.matches else [])]


def reproduce(fit: Any) -> str:
    """How it can be made again."""
    return f"{fit.call.shell()} (llmcalc {fit.version})"


# -- tables -------------------------------------------------------------------------------------


def parameter_table(fit: Any) -> tuple[list[str], list[list[str]], list[str]]:
    """Heading, rows and alignments: parameters, then exponents."""
    level = f"{100 * fit.settings['level']:g} % interval"
    head, rows = ["", "value", "std. error", level], []
    for name, value in {**fit.params, **fit.exponents}.items():
        held = name in fit.settings["fixed"]
        rows.append([
            name, figure(value), "held" if held else figure(fit.standard_errors.get(name), 3),
            "" if held else span(fit.intervals.get(name), 4),
        ])  # fmt: skip
    align = ["left", "right", "right", "right"]
    if not fit.resamples and not fit.settings["fixed"]:
        head, rows, align = head[:2], [row[:2] for row in rows], align[:2]
    return head, rows, align


def optimum_table(fit: Any) -> tuple[list[str], list[list[str]], list[str]]:
    """Heading, rows and alignments: the optimum at each budget."""
    head, rows = ["FLOP", "parameters", "", "tokens", "tokens/param", "", "loss", ""], []
    for one in fit.optima:
        rows.append([
            f"{one.compute:.3g}", format_count(one.params), counts(one.intervals.get("params")),
            format_count(one.tokens), figure(one.tokens_per_param, 3),
            span(one.intervals.get("tokens_per_param"), 3), figure(one.loss, 4),
            span(one.intervals.get("loss"), 4) if one.loss is not None else "-",
        ])  # fmt: skip
    keep = [place for place in range(len(head)) if head[place] or fit.resamples]
    if fit.lines is not None:
        keep = [place for place in keep if place < 6]
    if fit.resamples:
        head = [name or "interval" for name in head]
    return [head[p] for p in keep], [[row[p] for p in keep] for row in rows], ["right"] * len(keep)


# -- text ---------------------------------------------------------------------------------------


def paragraph(sentence: str) -> list[str]:
    """A sentence on lines of a terminal."""
    import textwrap

    return textwrap.wrap(
        sentence, WIDTH - 2, initial_indent="  ", subsequent_indent="    ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def as_text(fit: Any) -> str:
    """What the terminal shows."""
    words, lines = heading(fit), []
    if len("   ".join(words)) > WIDTH:
        lines += ["   ".join([words[0], *words[2:]]), *paragraph(words[1])]
    else:
        lines.append("   ".join(words))
    for sentence in settings(fit):
        lines += paragraph(sentence)
    lines += ["", *(f"  {line}" for line in grid(*parameter_table(fit), WIDTH - 2))]
    if fit.optima:
        head, rows, align = optimum_table(fit)
        lines += ["", *(f"  {line}".rstrip() for line in _stacked(fit, head, rows, align))]
    told = [*quality(fit), *rows_told(fit)]
    if told:
        lines.append("")
    for sentence in told:
        lines += paragraph(sentence)
    if doubts(fit):
        lines.append("")
    for sentence in doubts(fit):
        lines += paragraph(sentence)
    return "\n".join(lines) + "\n"


def _stacked(fit: Any, head: list[str], rows: list[list[str]], align: list[str]) -> list[str]:
    """The optima; intervals stand in a line below, for a terminal is narrow."""
    if not fit.resamples:
        return grid(head, rows, align, WIDTH - 2)
    level = f"{100 * fit.settings['level']:g} %"
    short = ["FLOP", "parameters", "tokens", "tokens/param", "loss"]
    cells = []
    for one in fit.optima:
        ends = one.intervals
        cells.append([f"{one.compute:.3g}", format_count(one.params), format_count(one.tokens),
                      figure(one.tokens_per_param, 3), figure(one.loss, 4)])  # fmt: skip
        cells.append([level, counts(ends.get("params")), counts(ends.get("tokens")),
                      span(ends.get("tokens_per_param"), 3), span(ends.get("loss"), 4)])  # fmt: skip
    if fit.lines is not None:
        short, cells = short[:4], [row[:4] for row in cells]
    return grid(short, cells, ["right"] * len(short), WIDTH - 2)


# -- documents ----------------------------------------------------------------------------------


def as_tables(fit: Any, kind: str) -> str:
    """Both tables for a document, with what stands below them."""
    from tabulate import tabulate

    from llmcalc.render.table import FORMATS, framed

    made = []
    for head, rows, align in (parameter_table(fit), optimum_table(fit)):
        if rows:
            made.append(tabulate(rows, head, tablefmt=FORMATS[kind], disable_numparse=True, colalign=align))
    below = [*settings(fit), *quality(fit), *rows_told(fit), *doubts(fit), *fit.warnings, reproduce(fit)]
    return framed(kind, "   ".join(heading(fit)), "\n\n".join(made), below)


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .8rem;border-bottom:1px solid #ddd}"
    "th{border-bottom:2px solid #888}img{max-width:100%}small{color:#555}"
)


def as_page(fit: Any) -> str:
    """A page by itself: tables, and pictures where matplotlib is installed."""
    import html

    from llmcalc.errors import InputError

    pictures = ""
    try:
        from llmcalc.render.fit_law_plot import as_pictures

        for title, data in as_pictures(fit):
            pictures += (
                f'<h2>{html.escape(title)}</h2>\n<img alt="{html.escape(title)}" '
                f'src="data:image/png;base64,{data}">\n'
            )
    except InputError:
        pictures = "<p><small>Pictures need matplotlib: pip install 'llmcalc-planner[plot]'.</small></p>\n"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(heading(fit)[0])}'
        f"</title><style>{STYLE}</style></head><body>\n<h1>A law fitted to runs</h1>\n"
        f"{as_tables(fit, 'html')}{pictures}</body></html>\n"
    )
