"""``llmcalc compare``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import (
    hardware_options,
    output_options,
    respond,
    weight_options,
    workload_options,
)


@click.command("compare", short_help="Several models side by side.")
@click.argument("models", nargs=-1)
@weight_options
@workload_options
@hardware_options
@click.option("--assume", metavar="FAMILY", help="Read unknown model_types as this family.")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file of your own.")
@output_options
def command(**options: Any) -> int:
    """Memory of several models side by side, each with the same workload.

    \b
    llmcalc compare llama-3.1-8b qwen3-8b gemma-3-12b --ctx 32k
    llmcalc compare llama-3.1-70b qwen3-next-80b --gpu 2xh100 --format markdown
    """
    from llmcalc.api.compare import compare

    return respond(compare, options)
