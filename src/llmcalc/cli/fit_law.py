"""``llmcalc fit-law``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import click

from llmcalc.cli.options import FORMATS, choose, for_terminal, stack, write
from llmcalc.errors import InputError, Problems

_law = stack(
    click.option(
        "--form", metavar="FORM", default="chinchilla", show_default=True,
        help="chinchilla, kaplan, power-law, data-constrained, moe, or allocation (optima that are given).",
    ),
    click.option(
        "--approach", metavar="N",
        help="1: envelope of training curves; 2: IsoFLOP parabolas; 3: the form on all runs.  [3]",
    ),
    click.option("--loss", metavar="LOSS", help="What is summed: huber, l1 or l2.  [huber]"),
    click.option("--delta", metavar="X", help="Where Huber's loss turns linear.  [0.001]"),
    click.option("--residual", metavar="KIND", help="log: ln(predicted / measured), or linear.  [log]"),
    click.option("--fix", metavar="NAME=X[,..]", help="Hold parameters: alpha=0.34,E=1.69."),
    click.option("--tied", is_flag=True, help="beta is alpha."),
    click.option("--along", metavar="WHAT", help="power-law: of compute, params or tokens.  [compute]"),
)  # fmt: skip

_data = stack(
    click.option("--params-col", metavar="NAME", help="Column of parameters.  [N, params ...]"),
    click.option("--tokens-col", metavar="NAME", help="Column of tokens.  [D, tokens ...]"),
    click.option("--loss-col", metavar="NAME", help="Column of losses.  [loss, val_loss ...]"),
    click.option("--compute-col", metavar="NAME", help="Column of FLOP; none: leave it out.  [C, flops ...]"),
    click.option("--run-col", metavar="NAME", help="Column that names the training run.  [run ...]"),
    click.option("--unique-col", metavar="NAME", help="data-constrained: column of unique tokens."),
    click.option("--experts-col", metavar="NAME", help="moe: column of experts."),
    click.option("--sd-col", metavar="NAME", help="allocation: standard error of ln N, for weights."),
    click.option(
        "--params-convention", metavar="KIND",
        help="How parameters are counted: total, non-embedding, active or matmul.",
    ),
    click.option("--params-unit", metavar="X", help="What one of the column stands for: 1e6 for millions."),
    click.option("--tokens-unit", metavar="X", help="The same of tokens."),
    click.option("--compute-unit", metavar="X", help="The same of FLOP."),
    click.option("--unique-unit", metavar="X", help="The same of unique tokens."),
    click.option(
        "--where", metavar="CONDITION", multiple=True, help="Only rows with: dataset=c4, 'C<1e21'; several."
    ),
    click.option("--skip-invalid", is_flag=True, help="Leave out rows with missing or impossible values."),
)  # fmt: skip

_more = stack(
    click.option("--bootstrap", metavar="N", default="1000", show_default=True, help="Resamples; 0: none."),
    click.option("--resample", metavar="WHAT", help="rows, or runs where rows are checkpoints.  [rows]"),
    click.option("--level", metavar="X", default="0.95", show_default=True, help="Level of the intervals."),
    click.option("--seed", metavar="N", default="0", show_default=True, help="Seed of the bootstrap."),
    click.option("--workers", metavar="N", help="Processes that share the bootstrap.  [1]"),
    click.option("--compute", metavar="FLOP[,FLOP]", help="Budgets to tell the optimum of.  [near the data]"),
    click.option("--unique-tokens", metavar="N", help="data-constrained: tokens that there are, for optima."),
    click.option("--experts", metavar="N", help="moe: experts, for optima."),
    click.option("--holdout", metavar="FLOP", help="Test on the runs from there on.  [about a tenth]"),
)  # fmt: skip

_shown = stack(
    click.option("--format", "format_", metavar="FORMAT", default="text", show_default=True,
                 help=f"{', '.join(FORMATS)}; html is a page with pictures."),
    click.option("--json", "json_", is_flag=True, help="Same as --format json."),
    click.option("--explain", is_flag=True, help="Add the law, the objective and what is derived."),
    click.option("--output-file", metavar="FILE", help="Write there instead of to the terminal."),
    click.option("--plot", metavar="FILE", help="Draw the fit, residuals, profiles, bootstrap (plot extra)."),
    click.option("--python", is_flag=True, help="Print the call of the Python API instead."),
)  # fmt: skip

SHOWN = ("format_", "json_", "explain", "output_file", "plot", "python", "workers", "file")
NUMBERS = ("approach", "bootstrap", "seed")


@click.command("fit-law", short_help="Fit a scaling law to runs.")
@click.argument("file")
@_law
@_data
@_more
@_shown
def command(**options: Any) -> int:
    """Fit a scaling law to runs: FILE is CSV, JSON lines or Parquet; - is standard input.

    Columns N, D, C and loss are found by their usual names; of N, D and C two are enough. The answer has
    parameters and optima with intervals, a test on the largest runs, outliers, and what is not settled.

    \b
    llmcalc fit-law runs.csv
    llmcalc fit-law runs.csv --loss l1 --compute 1e22,1e24 --plot fit.png
    llmcalc fit-law runs.csv --where dataset=c4 --loss-col loss_c4_val --tied --residual linear --loss l2
    llmcalc fit-law isoflops.csv --approach 2
    llmcalc fit-law checkpoints.csv --resample runs --run-col run_name --workers 4
    llmcalc fit-law repeated.csv --form data-constrained --unique-col U --unique-tokens 1e11
    """
    problems = Problems()
    kind = "text"
    with problems:
        kind = "json" if options["json_"] else choose(options["format_"], FORMATS, "--format")
    with problems:
        _picture(options["plot"])
    workers = 1
    with problems:
        workers = _workers(options["workers"])
    if options["python"]:
        problems.check()
        return _python(options)
    fit = None
    with problems:
        fit = _fitted(options, workers)
    problems.check()
    return _show(fit, kind, options)


def _show(fit: Any, kind: str, options: dict[str, Any]) -> int:
    """Write the answer, and notes to standard error."""
    text = getattr(fit, f"to_{kind}")()
    if options["explain"] and kind in ("text", "markdown"):
        explained = fit.explain()
        text += "\n" + (f"```\n{explained}```\n" if kind == "markdown" else explained)
    elif options["explain"] and kind != "json":
        click.echo(f"Note: --explain is for text and markdown; {kind} has no room for it.", err=True)
    if options["plot"] is not None:
        fit.plot(options["plot"])
    write(text, options["output_file"])
    if kind == "text":
        for note in fit.warnings:
            click.echo(for_terminal(f"Note: {note}"), err=True)
    return 0


def _picture(file: str | None) -> None:
    """Whether a picture can be drawn, before the work is done."""
    if file is not None:
        from llmcalc.render.plot import matplotlib_figure

        matplotlib_figure(file)


def _workers(value: str | None) -> int:
    """Number of processes."""
    if value is None:
        return 1
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:6]) <= 1024:
        raise InputError(f"--workers is {value[:20]!r}.", "Use a number of processes, 1 to 1024.")
    return int(value)


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """Keywords of the API: those that were given, numbers as numbers."""
    found = {
        key: value for key, value in options.items() if key not in SHOWN and value not in (None, False, ())
    }
    found["where"] = list(options["where"]) or None
    for key in ("approach", "bootstrap", "seed", "level", "delta", "holdout", "unique_tokens", "experts"):
        found[key] = _number(found.get(key))
    return {key: value for key, value in found.items() if value is not None}


def _number(value: Any) -> Any:
    """A number where the text is one; else the text, which the API refuses by name."""
    if not isinstance(value, str):
        return value
    try:
        return int(value) if value.strip().lstrip("-").isdigit() else float(value)
    except ValueError:
        return value


def _python(options: dict[str, Any]) -> int:
    """Print the call."""
    import inspect

    from llmcalc.answer.fit_law_parts import FitCall
    from llmcalc.answer.fit_law_run import Settings, used
    from llmcalc.api.fit_law import fit_law

    asked = _asked(options)
    known = {key: one.default for key, one in inspect.signature(fit_law).parameters.items() if key != "data"}
    Settings({**known, **asked})
    write(f"import llmcalc\n\n{FitCall(options['file'], used(asked)).python()}\n", options["output_file"])
    return 0


def _fitted(options: dict[str, Any], workers: int) -> Any:
    """Fit, with a bar on a terminal and several processes where they are asked for."""
    from llmcalc.api.fit_law import fit_law

    with ExitStack() as held:
        executor = None
        if workers > 1:
            from concurrent.futures import ProcessPoolExecutor

            executor = held.enter_context(ProcessPoolExecutor(workers))
        return fit_law(options["file"], **_asked(options), executor=executor, progress=_bar(held))


def _bar(held: ExitStack) -> Callable[[int, int], None] | None:
    """What draws a progress bar on standard error, where that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    bars: list[Any] = []
    done = [0]

    def progress(now: int, total: int) -> None:
        if not bars:
            bars.append(
                held.enter_context(click.progressbar(length=total, label="Bootstrap", file=sys.stderr))
            )
        bars[0].update(now - done[0])
        done[0] = now

    return progress
