"""``llmcalc params``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import model_options, picture_options, respond, weight_options


@click.command("params", short_help="Parameters by role.")
@model_options
@weight_options
@click.option("--by", metavar="WHAT", help="role, layer, or tag (what is stored beside the model).  [role]")
@click.option("--tensors", is_flag=True, help="List every tensor with its names and shape.")
@picture_options
def command(tensors: bool, **options: Any) -> int:
    """Parameters of a model by role, all and active, under the names people use for them.

    \b
    llmcalc params gpt-3
    llmcalc params mixtral-8x7b --by tag
    llmcalc params ./model.gguf --tensors
    """
    if tensors:
        from llmcalc.cli.tensors import list_tensors

        return list_tensors(options)
    from llmcalc.api import params

    return respond(params, options)
