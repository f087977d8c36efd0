"""``llmcalc chinchilla``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import list_output_options, respond, stack

budget_options = stack(
    click.argument("model", required=False),
    click.option("--params", metavar="N", help="Parameters: 7b, 7.24e9; active ones of a mixture."),
    click.option("--compute", metavar="FLOP", help="Training compute: 1e21, 5.76e23, 3PF-days."),
    click.option("--tokens", metavar="N", help="Training tokens: 300b, 15t."),
    click.option("--loss", metavar="X", help="Loss in nats per token."),
)
sheet_options = stack(
    click.option(
        "--config", metavar="PATH|-", help="A config.json, a folder with one, or - for standard input."
    ),
    click.option("--assume", metavar="FAMILY", help="Read an unknown model_type as this family."),
    click.option(
        "--catalog", metavar="FILE", multiple=True, help="A YAML file with laws, models, GPUs of your own."
    ),
    list_output_options,
    click.option("--explain", is_flag=True, help="Add formula, values, validity and source of each line."),
    click.option("--plot", metavar="FILE", help="Draw a picture (needs the plot extra)."),
    click.option("--python", is_flag=True, help="Print the call of the Python API instead."),
)
mixture_options = stack(
    click.option("--active-ratio", metavar="X", help="Of a mixture: active over all parameters, 0.1 or 10%."),
    click.option("--experts", metavar="N", help="Of a mixture: experts of a layer, one of them active."),
)


@click.command("chinchilla", short_help="Parameters and tokens of a training budget.")
@budget_options
@click.option(
    "--gpu", metavar="GPU", help="A budget in GPUs: 8xh100-80gb; without --days, how long it takes."
)
@click.option("--days", metavar="X", help="Days that they train.")
@click.option(
    "--mfu", metavar="X", help="Share of their peak over all hours: 40% or 0.4.  [as published runs]"
)
@click.option("--dtype", metavar="DTYPE", help="Of matrix products: bf16, fp8 ...  [bf16]")
@click.option(
    "--law", metavar="NAME[,NAME]", help="llmcalc laws lists them; all.  [besiroglu-2024, 3 beside]"
)
@click.option("--inference-tokens", metavar="N", help="Tokens served later: least compute in all.")
@click.option("--unique-tokens", metavar="N", help="Tokens there are: repeats beyond them.")
@mixture_options
@sheet_options
def command(**options: Any) -> int:
    """Split a training budget between parameters and tokens, by scaling laws side by side.

    One of --compute, --params, --tokens, --loss, or --gpu with --days gives the optimum; two give a run and
    what it lacks to the optimum.

    \b
    llmcalc chinchilla --compute 5.76e23 --law all
    llmcalc chinchilla --gpu 8xh100-80gb --days 30 --mfu 40%
    llmcalc chinchilla llama-3.1-8b --tokens 15t
    llmcalc chinchilla --params 7b --inference-tokens 1t
    llmcalc chinchilla --compute 1e22 --unique-tokens 20b
    """
    from llmcalc.answer.scaling.chinchilla import chinchilla

    return respond(chinchilla, {**options, "units": "gib"})
