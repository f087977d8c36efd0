"""``llmcalc train``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import model_options, output_options, respond, stack
from llmcalc.errors import InputError

_what = stack(
    click.option(
        "--method",
        metavar="NAME",
        help="full, lora, qlora, dora, freeze, prompt, prefix, bottleneck.  [full]",
    ),
    click.option(
        "--precision",
        metavar="NAME",
        help="bf16-mixed, bf16, bf16-fp32-states, megatron-bf16, megatron-fp16, deepspeed-bf16, "
        "deepspeed-fp16, fp16-mixed, fp16, fp8, fp32.  [bf16-mixed]",
    ),
    click.option(
        "--optimizer", metavar="NAME", help="adamw, adamw-fused, adamw-8bit ...: llmcalc optimizers.  [adamw]"
    ),
    click.option(
        "--optimizer-rank", metavar="N", help="Rank of an optimizer that projects gradients.  [its own]"
    ),
    click.option("--micro-batch", metavar="N", help="Sequences of one forward pass.  [1]"),
    click.option("--grad-accum", metavar="N", help="Micro-batches of one step.  [1]"),
    click.option(
        "--seq-len",
        "--context",
        "--ctx",
        "seq_len",
        metavar="TOKENS",
        help="Tokens of one sequence; k = 1024.  [model's limit, at most 8192]",
    ),
    click.option("--allow-overlong", is_flag=True, help="Allow sequences above the model's limit."),
)

_how = stack(
    click.option("--dtype", metavar="DTYPE", help="Dtype of frozen weights.  [16 bit]"),
    click.option("--quant", metavar="SCHEME", help="Quantization of frozen weights.  [qlora: nf4-dq]"),
    click.option("--recompute", metavar="WHAT", help="none, selective, ops, full, every-N, first-N.  [none]"),
    click.option(
        "--recompute-modules", metavar="NAMES", help="selective: core_attn,mlp,moe,layernorm,moe_act ..."
    ),
    click.option("--attention", metavar="KIND", help="flash, flash3 (and 4), sdpa or eager.  [flash]"),
    click.option(
        "--loss",
        metavar="KIND",
        help="eager, shifted, compiled, chunked, fused, vocab-parallel[-fused|-te], none.  [eager]",
    ),
    click.option(
        "--recipe",
        metavar="NAME",
        help="Whose code: hf, torchtune, torchtitan, megatron, liger, litgpt.  [hf]",
    ),
    click.option("--padded", metavar="on|off", help="A padding mask is there.  [off]"),
    click.option("--keep-logits", metavar="on|off", help="The output object keeps the logits.  [on for hf]"),
    click.option("--compile", "compile", metavar="on|off", help="torch.compile.  [off]"),
    click.option("--optimizer-in-backward", is_flag=True, help="The optimizer steps in the backward pass."),
    click.option(
        "--wide-embedding", metavar="on|off", help="fp32 states of embeddings beside 8-bit ones.  [off]"
    ),
    click.option("--untied-head", metavar="on|off", help="The head is a matrix of its own.  [off]"),
    click.option("--ema", is_flag=True, help="Keep an average of the trained weights."),
    click.option("--offload", metavar="WHAT", help="On the host: optimizer, gradients, params, activations."),
    click.option("--offload-to", metavar="cpu|nvme", help="Where DeepSpeed puts what it offloads.  [cpu]"),
    click.option("--zero-init", metavar="on|off", help="ZeRO-3 cuts each tensor as it is made.  [on]"),
    click.option("--deepspeed", metavar="FILE", help="A DeepSpeed configuration (JSON)."),
    click.option("--accelerate", metavar="FILE", help="An Accelerate configuration (YAML)."),
    click.option(
        "--like",
        metavar="NAME",
        help="trainer, trl, verl, torchtune, torchtitan, litgpt, deepspeed, megatron ...",
    ),
)

_part = stack(
    click.option("--lora-r", metavar="N", help="Rank of adapters.  [16]"),
    click.option("--lora-targets", metavar="NAMES", help="q_proj,v_proj ... or all-linear.  [all-linear]"),
    click.option("--lora-dropout", metavar="X", help="Dropout before adapters.  [0]"),
    click.option("--adapter-dtype", metavar="DTYPE", help="fp32 or bf16.  [fp32, as PEFT]"),
    click.option("--rslora", is_flag=True, help="Rank-stabilized scaling: no memory."),
    click.option(
        "--modules-to-save", metavar="NAMES", help="Modules trained whole beside adapters: lm_head ..."
    ),
    click.option(
        "--kbit-upcast",
        metavar="on|off",
        help="Cast the unquantized to fp32, as PEFT.  [on with fp32 adapters]",
    ),
    click.option(
        "--bitsandbytes", metavar="V", help="Its release: until 0.43.1 4-bit linears kept their inputs."
    ),
    click.option("--longest-first", metavar="on|off", help="litgpt: the longest batch comes first.  [off]"),
    click.option("--adapter-size", metavar="N", help="Inner width of bottleneck adapters.  [64]"),
    click.option("--adapter-kind", metavar="KIND", help="houlsby or pfeiffer.  [houlsby]"),
    click.option("--virtual-tokens", metavar="N", help="Tokens of a prompt or prefix.  [20]"),
    click.option(
        "--trainable", metavar="PARTS", help="freeze: what is trained: last-8,head,norms,bias,vision ..."
    ),
    click.option("--freeze", metavar="PARTS", help="What is not trained: embedding, vision, first-4 ..."),
    click.option(
        "--last-layers", metavar="N", help="Layers from the end that are trained or adapted.  [all]"
    ),
    click.option(
        "--reference",
        metavar="MODEL|same",
        help="A frozen reference beside it, for preferences (DPO); with --rl also none.  [--rl: same]",
    ),
    click.option("--teacher", metavar="MODEL", help="A frozen teacher beside it, for distillation."),
)

_rl = stack(
    click.option("--rl", metavar="grpo|ppo", help="One iteration of reinforcement learning."),
    click.option("--critic", metavar="MODEL|same", help="PPO's model of values.  [same]"),
    click.option("--reward", metavar="MODEL|rule", help="What judges answers.  [rule]"),
    click.option("--rollout", metavar="NAME", help="What answers: vllm, sglang, transformers, none.  [vllm]"),
    click.option(
        "--placement",
        metavar="WHERE",
        help="colocated, separate, or the roles that stand apart.  [colocated]",
    ),
    click.option("--rollout-gpus", metavar="N", help="GPUs of the engine, with --placement separate."),
    click.option(
        "--rollout-tp", metavar="N", help="GPUs that share its tensors.  [1; separate: all its GPUs]"
    ),
    click.option(
        "--gpu-memory-utilization", metavar="X", help="Its share of a GPU.  [0.3; separate: the engine's]"
    ),
    click.option("--sleep", metavar="on|off|1|2", help="It sleeps while others work.  [off]"),
    click.option("--enforce-eager", is_flag=True, help="It captures no CUDA graphs."),
    click.option(
        "--idle-offload", metavar="WHAT", help="Waits on the host: optimizer, params, reference, reward."
    ),
    click.option("--sync-bucket", metavar="SIZE", help="Buffer for weights on their way to it.  [a tensor]"),
    click.option("--prompt", metavar="TOKENS", help="Tokens of a prompt.  [512]"),
    click.option("--output", metavar="TOKENS", help="Tokens of an answer.  [512]"),
    click.option("--group-size", metavar="N", help="Answers to each prompt.  [grpo: 8, ppo: 1]"),
    click.option("--prompts", metavar="N", help="Prompts of an iteration.  [those of one step]"),
    click.option(
        "--forward-batch", metavar="N", help="Sequences of a pass without gradients.  [micro-batch]"
    ),
)

_spread = stack(
    click.option(
        "--tp", "--tensor-parallel-size", "tp", metavar="N", help="GPUs that share each tensor.  [1]"
    ),
    click.option("--pp", "--pipeline-parallel-size", "pp", metavar="N", help="Stages of layers.  [1]"),
    click.option("--vpp", metavar="N", help="Chunks of layers on each stage, interleaved.  [1]"),
    click.option(
        "--cp", "--context-parallel-size", "cp", metavar="N", help="GPUs that share each sequence.  [1]"
    ),
    click.option(
        "--ep", "--expert-parallel-size", "ep", metavar="N", help="GPUs that share the experts.  [1]"
    ),
    click.option("--etp", metavar="N", help="GPUs that share each expert's tensors.  [tp; 1 with --ep]"),
    click.option(
        "--dp", "--data-parallel-size", "dp", metavar="N", help="Replicas.  [what is left of the GPUs]"
    ),
    click.option(
        "--sequence-parallel", metavar="on|off", help="Tensor ranks share tokens.  [on for megatron]"
    ),
    click.option("--schedule", metavar="NAME", help="Of a pipeline: 1f1b or gpipe.  [1f1b]"),
    click.option("--stage-layers", metavar="N,N", help="Layers of each stage.  [even]"),
    click.option("--zero", metavar="STAGE", help="DeepSpeed's sharing: 0 to 3; megatron's: 0 or 1.  [0; 1]"),
    click.option("--fsdp", metavar="1|2|off", help="PyTorch's sharding, by its version.  [off]"),
    click.option(
        "--reshard-after-forward", metavar="on|off|N", help="FSDP lets a block go after forward.  [on]"
    ),
    click.option("--shard-degree", metavar="N", help="FSDP: GPUs that share one copy (HSDP).  [all]"),
    click.option(
        "--reduce-dtype", metavar="DTYPE", help="FSDP: gradients are summed in fp32 or bf16.  [fp32 if mixed]"
    ),
    click.option(
        "--fsdp-units", metavar="layers|all", help="FSDP: embedding and head by themselves.  [layers]"
    ),
    click.option(
        "--grad-sync", metavar="each|last", help="Micro-batches after which ranks sum gradients.  [each]"
    ),
    click.option("--bucket-views", metavar="on|off", help="DDP: gradients are views of its buckets.  [off]"),
    click.option("--global-batch", metavar="N", help="Sequences of a step over all GPUs."),
    click.option("--capacity-factor", metavar="X", help="Tokens an expert takes, of an equal share.  [all]"),
    click.option("--cp-comm", metavar="p2p|a2a", help="How context ranks exchange keys and values.  [p2p]"),
    click.option(
        "--imbalance", metavar="X", help="Tokens of the busiest expert rank, of an equal share.  [1]"
    ),
)

_where = stack(
    click.option("--gpu", metavar="GPU[,GPU]", help="h100, 8xh100, rtx-4090, 24GiB; commas: a row each."),
    click.option("--reserve", metavar="SIZE", help="Memory that others use on the GPU.  [0]"),
    click.option(
        "--metric",
        metavar="NAME",
        help="What the total means: nvidia-smi, reserved, allocated, memtracker.  [nvidia-smi]",
    ),
    click.option(
        "--expandable-segments", metavar="on|off", help="PyTorch's allocator may grow its segments.  [off]"
    ),
    click.option("--timeline", is_flag=True, help="Print memory over the step."),
    click.option(
        "--layouts", is_flag=True,
        help="All layouts of the GPUs that fit; degrees that are given stay, or run over 1,2,4.",
    ),
    click.option("--top", metavar="N", help="Layouts that are shown.  [20]"),
)  # fmt: skip


@click.command("train", short_help="Memory of training and fine-tuning.")
@model_options
@_what
@_how
@_part
@_rl
@_spread
@_where
@output_options
def command(timeline: bool, layouts: bool, top: Any, **options: Any) -> int:
    """Memory of one training step, on one GPU or many, the moment of its peak, and what would lower it.

    Without a model it tells the largest of the catalog that the GPU trains so. --plot draws memory
    over the step. --layouts tries every way to spread the step over the GPUs, and tells those that fit, the
    best first; --plot then draws memory against the bubble.

    \b
    llmcalc train llama-3.2-3b --seq-len 4k --precision bf16 --gpu h100 --timeline
    llmcalc train llama-3.1-8b --method qlora --seq-len 2k --gpu rtx-4090
    llmcalc train llama-3.1-70b --recipe megatron --precision megatron-bf16 --tp 8 --pp 4 --gpu 64xh100
    llmcalc train llama-3.1-8b --deepspeed ds.json --micro-batch 2 --gpu 8xh100
    llmcalc train llama-3.1-70b --like megatron --global-batch 512 --gpu 64xh100-80gb --layouts
    llmcalc train llama-3.1-8b --like torchtune --method lora --gpu rtx-4090
    llmcalc train --method qlora --seq-len 2k --gpu rtx-4090
    llmcalc train qwen2.5-7b --rl grpo --like verl --gpu 8xh100 --idle-offload optimizer
    llmcalc train --params 13b --precision bf16
    """
    if layouts:
        from llmcalc.api.layouts import layouts as search

        if timeline:
            raise InputError("--timeline is of one layout.", "Leave --layouts or --timeline out.")
        return respond(search, {**options, "top": top})
    from llmcalc.answer.training.ask import train

    if top is not None:
        raise InputError("--top is for a table of layouts.", "Add --layouts, or leave --top out.")
    options["timeline"] = timeline
    return respond(train, options)
