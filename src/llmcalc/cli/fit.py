"""``llmcalc fit``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import (
    EngineCommand,
    hardware_options,
    model_options,
    output_options,
    respond,
    serve_option,
    weight_options,
    workload_options,
)


@click.command("fit", cls=EngineCommand, short_help="Does it fit, and what would make it.")
@model_options
@weight_options
@click.option("--overhead", metavar="X", help="Factor of the rule of thumb, for bare counts.  [1.2]")
@workload_options
@hardware_options
@serve_option
@output_options
def command(**options: Any) -> int:
    """Whether a model fits, with the finest format and the longest context that do.

    Exits with 0 if it fits one of the GPUs named, with 1 if it fits none, with 3 if that is too close
    to call.

    \b
    llmcalc fit llama-3.1-8b --quant q4_k_m --gpu rtx-3060 --engine llama.cpp
    llmcalc fit qwen3-32b --ctx 32k --gpu rtx-4090,2xrtx-3090,m4-max-64gb
    llmcalc fit gpt-oss-120b --gpu auto --engine llama.cpp
    """
    from llmcalc.api.fit import fit

    options["check"] = False  # it checks anyway, and asks for a GPU itself
    return respond(fit, options)
