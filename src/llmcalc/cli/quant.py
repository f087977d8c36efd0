"""``llmcalc quant``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import model_options, picture_options, respond


@click.command("quant", short_help="One model in many formats.")
@model_options
@click.option("--schemes", metavar="NAME[,NAME]", help="Only these: q4_k_m,awq,nf4.  [the usual ones]")
@click.option("--all", "all_schemes", is_flag=True, help="Every scheme of the catalog.")
@click.option("--sort", metavar="WHAT", help="size, bits or name.  [size]")
@click.option("--max-size", metavar="SIZE", help="Only those whose weights take at most this: 8GiB.")
@click.option("--dtype", metavar="DTYPE", help="Dtype of what stays unquantized.")
@click.option("--context", "--ctx", "-ctx", "context", metavar="TOKENS", help="Tokens of one sequence.")
@click.option("--sequences", "--batch", "sequences", metavar="N", help="Sequences held at once.  [1]")
@click.option("--kv-dtype", metavar="DTYPE", help="Format of keys and values.  [16 bit]")
@click.option("--gpu", metavar="GPU[,GPU]", help="Cards to try: a verdict for each.")
@click.option("--reserve", metavar="SIZE", help="Memory that others use on each GPU.  [0]")
@picture_options
def command(**options: Any) -> int:
    """A model in many formats: bits per weight, size, the smallest card, what fits.

    Bits are those of the linear layers as stored, scales included, and of all weights together: many
    formats leave embeddings, head and norms in 16 bit.

    \b
    llmcalc quant llama-3.1-8b
    llmcalc quant llama-3.1-8b --gpu rtx-4060,rtx-4090 --ctx 16k
    llmcalc quant qwen3-32b --max-size 20GiB --format markdown
    """
    from llmcalc.api.quant import quant

    return respond(quant, options)
