"""``llmcalc hparams``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.chinchilla import budget_options, mixture_options, sheet_options
from llmcalc.cli.options import respond


@click.command("hparams", short_help="Learning rate and batch by scaling laws.")
@budget_options
@click.option(
    "--law", metavar="NAME[,NAME]", help="Only these; llmcalc laws --answers batch lists some.  [all]"
)
@click.option("--batch", metavar="TOKENS", help="A batch to hold against the critical one: 1m, 4e6.")
@click.option("--sequence", metavar="TOKENS", help="Tokens of a sequence: batches in sequences too (JSON).")
@mixture_options
@sheet_options
def command(**options: Any) -> int:
    """Learning rate, batch size and critical batch of a training run, by every law that gives them.

    Parameters and tokens make the run; what is missing is the compute-optimal one by besiroglu-2024.

    \b
    llmcalc hparams --params 7b --tokens 1.4t
    llmcalc hparams llama-3.2-1b --tokens 100b --batch 1m
    llmcalc hparams --compute 1e20 --law deepseek-2024
    """
    from llmcalc.answer.scaling.hparams import hparams

    return respond(hparams, {**options, "units": "gib"})
