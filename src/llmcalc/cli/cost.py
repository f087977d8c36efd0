"""``llmcalc cost``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import model_options, picture_options, respond, stack

_work = stack(
    click.option("--active", metavar="N", help="With --params: parameters that one token uses.  [all]"),
    click.option("--tokens", metavar="N", help="Tokens trained on (2t, 300b); of serving, tokens made."),
    click.option("--examples", metavar="N", help="Fine-tuning: examples (50k)."),
    click.option("--epochs", metavar="X", help="Passes over the data.  [1]"),
    click.option("--steps", metavar="N", help="Optimizer steps, with --batch, instead of tokens."),
    click.option("--batch", metavar="N", help="Sequences of a step, over all GPUs."),
    click.option(
        "--context",
        "--ctx",
        "--seq-len",
        "context",
        metavar="TOKENS",
        help="Tokens of a sequence.  [of --examples 2048, else the model's limit, at most 8192]",
    ),
    click.option("--unique", metavar="N", help="Tokens that there are, if fewer than are trained on."),
    click.option("--method", metavar="NAME", help="full, lora or qlora.  [full]"),
    click.option("--lora-r", metavar="N", help="Rank of adapters.  [16]"),
    click.option("--lora-targets", metavar="NAMES", help="q_proj,v_proj ... or all-linear.  [all-linear]"),
)

_time = stack(
    click.option("--gpu", metavar="GPU", help="6000xa100-80gb, 8xh100; without a number GPU-hours alone."),
    click.option("--days", "--deadline", "days", metavar="X", help="A deadline: how many GPUs meet it."),
    click.option("--precision", metavar="NAME", help="Whose peak: bf16, fp16, fp8, fp4 ...  [bf16]"),
    click.option("--mfu", metavar="SHARE", help="MFU of a step: 0.4 or 40%.  [as published runs]"),
    click.option("--hfu", metavar="SHARE", help="HFU of a step instead."),
    click.option("--recompute", metavar="WHAT", help="With --hfu: none, selective or full.  [none]"),
    click.option("--convention", metavar="NAME", help="How the MFU counts: llmcalc flops.  [6nd]"),
    click.option("--goodput", metavar="SHARE", help="Share of the hours that steps take.  [0.88]"),
    click.option("--pp", metavar="N", help="Stages of a pipeline: its bubble, on top of a stated MFU.  [1]"),
    click.option("--micro-batches", metavar="N", help="Micro-batches of a step in the pipeline."),
    click.option("--vpp", metavar="N", help="Chunks of layers on each stage, interleaved.  [1]"),
)

_money = stack(
    click.option("--tdp-share", metavar="X", help="Share of the GPU's TDP that is drawn.  [1]"),
    click.option("--pue", metavar="X", help="Energy of the building for each unit of machines.  [1.1]"),
    click.option("--carbon", metavar="G/KWH", help="Intensity of the grid, for CO2."),
    click.option("--price", metavar="X", help="Of a GPU-hour: 2, 2.5EUR.  [the catalog's, dated]"),
    click.option("--currency", metavar="CODE", help="USD, EUR, GBP ...  [USD]"),
    click.option("--exchange", metavar="X", help="What a dollar is in that currency."),
    click.option("--checkpoints", metavar="N", help="Checkpoints that are kept.  [1]"),
)

_serving = stack(
    click.option("--throughput", metavar="TOKENS/S", help="Serving: tokens/s of all GPUs together."),
    click.option("--output", metavar="TOKENS", help="Serving: tokens of an answer."),
    click.option("--reasoning-tokens", metavar="TOKENS", help="Serving: tokens before the answer.  [0]"),
    click.option(
        "--samples", "--best-of", "samples", metavar="N", help="Serving: answers drawn for each.  [1]"
    ),
    click.option("--requests", metavar="N", help="Serving: how many answers."),
    click.option("--busy", metavar="SHARE", help="Serving: share of the time that GPUs work.  [1]"),
)


@click.command("cost", short_help="Time, energy and price of training, tuning and serving.")
@model_options
@_work
@_time
@_money
@_serving
@picture_options
def command(**options: Any) -> int:
    """GPU-hours, days, energy, price and disk of training; the price of tokens at a throughput.

    Without --mfu it takes what published runs of that size reached over all their hours, as a range. Prices
    of the catalog carry their date; --price wins.

    \b
    llmcalc cost llama-2-70b --tokens 2t --gpu 6000xa100-80gb
    llmcalc cost --params 13b --tokens 300b --gpu h100 --days 14
    llmcalc cost llama-3.1-8b --examples 50k --epochs 3 --seq-len 2k --batch 64 --gpu 8xh100
    llmcalc cost llama-3.1-8b --method lora --examples 10k --gpu rtx-4090 --price 0.4
    llmcalc cost llama-3.1-70b --throughput 2500 --gpu 4xh100 --output 500 --reasoning-tokens 4k
    """
    from llmcalc.answer.cost.ask import cost

    return respond(cost, options)
