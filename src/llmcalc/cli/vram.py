"""``llmcalc vram``."""

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


@click.command("vram", cls=EngineCommand, short_help="Memory at inference.")
@model_options
@weight_options
@click.option("--overhead", metavar="X", help="Factor of the rule of thumb, for bare counts.  [1.2]")
@workload_options
@hardware_options
@serve_option
@output_options
def command(**options: Any) -> int:
    """Memory of a model at inference: weights, KV cache, state and runtime.

    MODEL is a config.json or a folder with one, a name from the catalog, a Hugging Face id, or a
    count such as 13b.

    \b
    llmcalc vram --params 13b --bits 4
    llmcalc vram llama-3.1-8b --ctx 32k --gpu rtx-4090
    llmcalc vram ./config.json --ctx 128k --json
    llmcalc vram llama-3.1-70b --ctx 32k --gpu 4xh100,8xa100-40gb
    llmcalc vram llama-3.1-8b --quant q4_k_m --ctx 32k --gpu rtx-4090 --engine llama.cpp
    """
    from llmcalc.api import vram

    return respond(vram, options)
