"""``llmcalc compare``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import (
    EngineCommand,
    hardware_options,
    output_options,
    respond,
    weight_options,
    workload_options,
)


@click.command("compare", cls=EngineCommand, short_help="Models, formats, engines or GPUs side by side.")
@click.argument("models", nargs=-1)
@weight_options
@workload_options
@hardware_options
@click.option("--assume", metavar="FAMILY", help="Read unknown model_types as this family.")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file of your own.")
@output_options
def command(**options: Any) -> int:
    """Memory of several models, formats, engines or GPUs side by side, each with the same workload.

    --quant, --engine and --gpu take several with commas: the table has a row for each combination, at
    most 64. What an engine refuses is a row of dashes, with the reason below.

    \b
    llmcalc compare llama-3.1-8b qwen3-8b gemma-3-12b --ctx 32k
    llmcalc compare llama-3.1-70b --quant q4_k_m,awq,fp8 --gpu h100,2xrtx-4090
    llmcalc compare qwen3-14b --engine none,vllm,llama.cpp --gpu rtx-4090 --format markdown
    """
    from llmcalc.api.compare import compare

    return respond(compare, options)
