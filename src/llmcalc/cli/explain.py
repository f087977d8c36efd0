"""``llmcalc explain``."""

from __future__ import annotations

import click

from llmcalc.cli.options import write

MODULES = (
    "llmcalc.memory.inference",
    "llmcalc.memory.training.formulas",
    "llmcalc.memory.training.parallel.formulas",
    "llmcalc.memory.training.parallel.zero_formulas",
    "llmcalc.scaling.loss",
    "llmcalc.scaling.optimum",
    "llmcalc.scaling.terms",
    "llmcalc.scaling.repeated",
    "llmcalc.scaling.experts",
    "llmcalc.scaling.rates",
)
"""Modules whose import registers formulas."""


@click.command("explain", short_help="A formula with its source.")
@click.argument("formula", required=False)
@click.option("--output-file", metavar="FILE", help="Write there instead of to the terminal.")
def command(formula: str | None, output_file: str | None) -> int:
    """Show a formula: its expression, units, validity, an example and the source. Without a name, list all.

    \b
    llmcalc explain
    llmcalc explain kv_cache_bytes
    """
    from importlib import import_module

    from llmcalc.render.explain import formula_list, formula_text

    for module in MODULES:
        import_module(module)
    write(formula_text(formula) if formula else formula_list(), output_file)
    return 0
