"""``llmcalc params``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import model_options, picture_options, respond, weight_options


@click.command("params", short_help="Parameters by role.")
@model_options
@weight_options
@picture_options
def command(**options: Any) -> int:
    """Parameters of a model by role, all and active, under the names people use for them.

    \b
    llmcalc params gpt-3
    llmcalc params mixtral-8x7b --json
    """
    from llmcalc.api import params

    return respond(params, options)
