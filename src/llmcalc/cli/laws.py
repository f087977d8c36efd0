"""``llmcalc laws``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import list_output_options, stack

_list_options = stack(
    click.option("--search", metavar="WORD", help="Only those whose name, alias or title has this word."),
    click.option(
        "--answers",
        metavar="WHAT",
        help="Only those that give optimum, loss, learning-rate, batch, critical-batch ...",
    ),
    click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with laws of your own."),
    list_output_options,
)
ANSWERS = (
    "optimum", "loss", "learning-rate", "batch", "critical-batch", "data", "vocabulary", "conversion",
    "objective",
)  # fmt: skip


@click.group("laws", invoke_without_command=True, short_help="The catalog of scaling laws.")
@_list_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int | None:
    """List scaling laws; `llmcalc laws show NAME` shows one.

    A law that gives nothing is there by its form alone: its constants were not seen well enough.

    \b
    llmcalc laws --search kaplan
    llmcalc laws --answers learning-rate
    llmcalc laws show hoffmann-2022-3 --plot law.png
    """
    ctx.obj = options
    return None if ctx.invoked_subcommand else _list(options)


def _list(options: dict[str, Any]) -> int:
    from llmcalc.cli.listing import catalog_of, matches, show_list
    from llmcalc.cli.options import choose

    answer = choose(options["answers"], ANSWERS, "--answers") if options["answers"] else None
    rows = []
    for entry in catalog_of(options["catalog"]).entries("laws"):
        if options["search"] and not matches({**entry, "organisation": entry["title"]}, options["search"]):
            continue
        gives = entry.get("answers", [])
        if answer is not None and answer not in gives:
            continue
        rows.append(
            {
                "name": entry["name"],
                "title": entry["title"],
                "gives": ", ".join(gives) or "nothing",
                "counts": entry["convention"],
                "status": entry["status"],
            }
        )
    return show_list(rows, options, "laws", options["search"], spare=("counts",), wrapped=("title", "gives"))


@command.command("list")
@_list_options
def list_(**options: Any) -> int:
    """List scaling laws."""
    return _list(options)


@command.command("show")
@click.argument("name")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with laws of your own.")
@click.option("--plot", metavar="FILE", help="Draw the law over its range and beyond (needs the plot extra).")
@list_output_options
def show(name: str, plot: str | None, **options: Any) -> int:
    """Show one law: form, coefficients with units, uncertainty, range, status, and its sources in full.

    A variant stands after a colon, as in porian-2024:warmup.
    """
    from llmcalc.cli.listing import catalog_of, show_entry
    from llmcalc.scaling.laws import COUNTS, STATUS, find_law

    catalog = catalog_of(options["catalog"])
    law = find_law(name, catalog)
    extra: dict[str, Any] = {"counts": COUNTS[law.convention], "means": STATUS[law.entry["status"]]}
    if not law.own:
        extra["coefficients_of_variant"] = law.coefficients
    if "optimum" in law.answers:
        extra["optimum"] = {}
        for compute in (1e19, 1e21, 1e23, 1e25):
            N, D = (float(f"{value:.6g}") for value in law.optimum(compute))
            row = {"params": N, "tokens": D, "tokens_per_param": float(f"{D / N:.4g}")}
            if "loss" in law.answers:
                row["loss"] = round(float(law.loss(N, D)), 4)
            extra["optimum"][f"{compute:.0e}".replace("e+", "e") + " FLOP"] = row
    if plot is not None:
        from llmcalc.render.scaling import plot_law

        plot_law(law, plot)
    return show_entry(law.entry, extra, options, "laws", lambda word: catalog.lookup("sources", word))
