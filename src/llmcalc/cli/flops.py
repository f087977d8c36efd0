"""``llmcalc flops``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import model_options, picture_options, respond, stack

_what = stack(
    click.option("--tokens", metavar="N", help="Tokens of the whole run: 300b, 15t."),
    click.option(
        "--context", "--ctx", "--seq-len", "context", metavar="TOKENS",
        help="Tokens of one sequence; k = 1024.  [model's limit, at most 8192]",
    ),
    click.option("--phase", metavar="NAME", help="train, prefill or decode.  [train]"),
    click.option("--sequences", "--batch", "sequences", metavar="N", help="Sequences of a step.  [1]"),
    click.option(
        "--mask", metavar="WAY", help="Pairs of positions: causal (as masked), half, full.  [causal]"
    ),
    click.option("--head", metavar="WHERE", help="Positions with logits: all, last, none.  [training: all]"),
    click.option("--embedding", is_flag=True, help="Count the embedding as a product, as Hoffmann et al."),
    click.option("--mtp", is_flag=True, help="Prediction layers run too."),
    click.option("--encoder-tokens", metavar="TOKENS", help="Tokens that the encoder reads.  [the model's]"),
    click.option("--image-tokens", metavar="TOKENS", help="Tokens that cross-attention reads.  [0]"),
    click.option("--allow-overlong", is_flag=True, help="Allow a context above the model's limit."),
)  # fmt: skip

_how = stack(
    click.option("--recompute", metavar="WHAT", help="none, selective (attention) or full.  [none]"),
    click.option("--method", metavar="NAME", help="full, lora or qlora.  [full]"),
    click.option("--lora-r", metavar="N", help="Rank of adapters.  [16]"),
    click.option("--lora-targets", metavar="NAMES", help="q_proj,v_proj ... or all-linear.  [all-linear]"),
    click.option("--by", metavar="WHAT", help="Rows: part or role.  [part]"),
    click.option("--dtype", metavar="DTYPE", help="Dtype that weights are read in.  [checkpoint's]"),
    click.option("--quant", metavar="SCHEME", help="Quantization that weights are read in."),
    click.option("--kv-dtype", metavar="DTYPE", help="Format of keys and values.  [16 bit]"),
)

_speed = stack(
    click.option("--gpu", metavar="GPU[,GPU]", help="For peak, roofline and MFU: h100, 8xa100-80gb."),
    click.option("--precision", metavar="NAME", help="Whose peak: bf16, fp16, fp8, fp4 ...  [bf16]"),
    click.option("--throughput", metavar="TOKENS/S", help="A measured speed, of all GPUs together."),
    click.option("--tflops", metavar="X", help="A published speed of one GPU."),
    click.option("--mfu", metavar="SHARE", help="A published MFU: 0.4 or 40%."),
    click.option("--hfu", metavar="SHARE", help="A published HFU, recomputation counted."),
    click.option(
        "--convention", metavar="NAME",
        help="What it counts by: palm, narayanan, korthikanti, kaplan, llm-foundry, torchtitan, megatron, "
        "maxtext, hoffmann, 6nd ...  [exact]",
    ),
)  # fmt: skip


@click.command("flops", short_help="Operations: forward, backward, MFU by convention.")
@model_options
@_what
@_how
@_speed
@picture_options
def command(**options: Any) -> int:
    """Operations of a model op by op, beside 2N and 6ND, and as each publication counts them.

    A speed (--throughput, --tflops, --mfu or --hfu) is turned into MFU and HFU by every convention, so that
    published figures can be compared. --plot draws the roofline.

    \b
    llmcalc flops llama-3.1-8b --ctx 8k
    llmcalc flops gpt-3 --tokens 300b
    llmcalc flops llama-3.1-8b --gpu h100 --tflops 420 --convention llm-foundry --recompute full
    llmcalc flops deepseek-v3 --phase decode --ctx 32k --sequences 64 --gpu h200
    llmcalc flops llama-3.1-8b --method lora --lora-targets q_proj,v_proj
    """
    from llmcalc.answer.flops.ask import flops

    return respond(flops, options)
