"""Options of single engines: one stack for each, under its own names."""

from __future__ import annotations

import click

from llmcalc.cli.options import stack

llama_options = stack(
    click.option("--n-ctx", "-c", "n_ctx", metavar="TOKENS", help="llama.cpp: context over all slots."),
    click.option("--parallel", "-np", "parallel", metavar="N", help="llama.cpp: slots.  [sequences]"),
    click.option(
        "--gpu-layers", "-ngl", "gpu_layers", metavar="N",
        help="llama.cpp: layers on GPUs, the output first.  [all]",
    ),
    click.option("--ubatch", "-ub", "ubatch", metavar="N", help="llama.cpp: physical batch.  [512]"),
    click.option("--n-cpu-moe", metavar="N", help="llama.cpp: layers whose experts stay on the CPU.  [0]"),
    click.option(
        "--override-tensor", "-ot", "override_tensor", metavar="PATTERN=BUFFER",
        help="llama.cpp: put tensors elsewhere: '\\.ffn_.*_exps\\.=CPU'.",
    ),
    click.option("--tensor-split", "-ts", "tensor_split", metavar="A,B", help="llama.cpp: GPUs' shares."),
    click.option(
        "--flash-attn", "-fa", "flash_attn", metavar="on|off", help="llama.cpp: flash attention.  [on]"
    ),
    click.option("--kv-unified", is_flag=True, help="llama.cpp: one cache for all slots."),
    click.option("--swa-full", is_flag=True, help="llama.cpp: window caches of full length."),
    click.option("--mla", metavar="on|off", help="llama.cpp: cache latents, not full heads.  [on]"),
    click.option("--fit", is_flag=True, help="llama.cpp: context and layers as llama-server chooses them."),
    click.option(
        "--mmproj", "-mm", "mmproj", metavar="on|off|FILE",
        help="llama.cpp: the projector for images and sound: the model's own, or a GGUF file.  [off]",
    ),
    click.option("--no-mmproj-offload", is_flag=True, help="llama.cpp: keep the projector on the CPU."),
    click.option(
        "--lora", metavar="FILE|r=N", multiple=True,
        help="An adapter by its rank, for llama.cpp also a GGUF file; may be given more than once.",
    ),
    click.option(
        "--draft", "--model-draft", "-md", "draft", metavar="MODEL|mtp|eagle",
        help="A draft model, the model's own prediction layers, or (not llama.cpp) an EAGLE head: eagle, "
        "eagle3, or its config.json.",
    ),
    click.option("--draft-quant", metavar="SCHEME", help="Scheme of the draft.  [llama.cpp: --quant]"),
    click.option(
        "--draft-max", "--spec-draft-n-max", "draft_max", metavar="N",
        help="llama.cpp: tokens drafted at once.  [3]",
    ),
    click.option(
        "--repack", metavar="on|off|CPU",
        help="llama.cpp: tell apart what the CPU re-lays out: avx2 (on), avx512 or neon.",
    ),
)  # fmt: skip

vllm_options = stack(
    click.option(
        "--gpu-memory-utilization", metavar="X", help="vLLM: its share of the GPU.  [0.92; 0.9 before 0.33]"
    ),
    click.option("--max-num-seqs", metavar="N", help="vLLM: sequences of one batch.  [by GPU: 1024 or 256]"),
    click.option(
        "--max-num-batched-tokens", metavar="TOKENS", help="vLLM: tokens of a batch.  [by GPU: 8192 or 2048]"
    ),
    click.option("--enforce-eager", is_flag=True, help="vLLM: no CUDA graphs."),
    click.option("--block-size", metavar="TOKENS", help="vLLM: tokens of a block.  [16]"),
    click.option(
        "--disable-hybrid-kv-cache-manager", is_flag=True, help="vLLM: window layers keep all tokens."
    ),
    click.option("--enable-prefix-caching", is_flag=True, help="vLLM: states kept for prefix caching."),
    click.option("--num-speculative-tokens", metavar="N", help="vLLM: tokens drafted ahead.  [0]"),
    click.option(
        "--async-scheduling", metavar="on|off", help="vLLM: two batches in flight.  [on from 0.21]"
    ),
    click.option(
        "--dcp", "--decode-context-parallel-size", "dcp", metavar="N",
        help="vLLM: tensor ranks that share a cache's tokens.  [1]",
    ),
    click.option("--max-loras", metavar="N", help="vLLM, SGLang: adapters of one batch.  [SGLang: 8]"),
    click.option("--max-lora-rank", metavar="N", help="vLLM, SGLang: their largest rank.  [16]"),
    click.option(
        "--kv-cache-memory", "--kv-cache-memory-bytes", "kv_cache_memory", metavar="SIZE",
        help="vLLM: the pool's size, whatever is left.",
    ),
)  # fmt: skip

sglang_options = stack(
    click.option(
        "--mem-fraction-static", metavar="X",
        help="SGLang: share of free memory for weights and pools.  [by GPU]",
    ),
    click.option(
        "--chunked-prefill-size", metavar="TOKENS", help="SGLang: a chunk.  [by GPU: 2048 to 16384]"
    ),
    click.option("--cuda-graph-max-bs", metavar="N", help="SGLang: largest captured batch.  [by GPU]"),
    click.option("--max-running-requests", metavar="N", help="SGLang: requests at once.  [2048 or more]"),
    click.option("--max-total-tokens", metavar="TOKENS", help="SGLang: tokens of the pool at most."),
    click.option("--page-size", metavar="TOKENS", help="SGLang: tokens of a page.  [1; 64 for DSA]"),
    click.option(
        "--swa-full-tokens-ratio", metavar="X", help="SGLang: window slots for each full one.  [0.8]"
    ),
    click.option("--disable-hybrid-swa-memory", is_flag=True, help="SGLang: windows kept whole."),
    click.option(
        "--mamba-full-memory-ratio", metavar="X", help="SGLang: states for each byte of KV cache.  [0.9]"
    ),
    click.option("--max-mamba-cache-size", metavar="N", help="SGLang: state slots.  [by that ratio]"),
    click.option("--mamba-ssm-dtype", metavar="DTYPE", help="SGLang: of states.  [the model's, float32]"),
    click.option("--disable-radix-cache", is_flag=True, help="SGLang: no prefix caching."),
    click.option("--disable-cuda-graph", is_flag=True, help="SGLang: no CUDA graphs."),
    click.option(
        "--enable-dp-attention", is_flag=True, help="SGLang: replicas of attention share the tensor ranks."
    ),
    click.option(
        "--speculative-num-draft-tokens", metavar="N",
        help="SGLang: draft tokens of one step.  [0; 4 with --draft]",
    ),
)  # fmt: skip

tensorrt_options = stack(
    click.option(
        "--free-gpu-memory-fraction", "--kv-cache-free-gpu-memory-fraction", "free_gpu_memory_fraction",
        metavar="X", help="TensorRT-LLM: share of what weights and a dummy batch leave.  [0.9]",
    ),
    click.option("--tokens-per-block", metavar="TOKENS", help="TensorRT-LLM: tokens of a block.  [32]"),
    click.option("--max-batch-size", metavar="N", help="TensorRT-LLM: sequences of a batch.  [2048]"),
    click.option("--max-num-tokens", metavar="TOKENS", help="TensorRT-LLM: tokens of a batch.  [8192]"),
)  # fmt: skip

transformers_options = stack(
    click.option(
        "--cache", "--cache-implementation", "cache", metavar="KIND",
        help="transformers: dynamic, static, quantized, offloaded or offloaded_static.  [dynamic]",
    ),
    click.option(
        "--attention", metavar="KIND", help="transformers: eager, sdpa or flash.  [sdpa if it can]"
    ),
    click.option("--max-cache-len", metavar="TOKENS", help="transformers: static cache's length.  [context]"),
    click.option(
        "--logits-to-keep", metavar="N", help="transformers: last tokens with logits, 0 is all.  [1]"
    ),
    click.option("--prefill-chunk-size", metavar="TOKENS", help="transformers: tokens of a pass.  [all]"),
    click.option("--padding", is_flag=True, help="transformers: prompts differ in length and are padded."),
    click.option(
        "--experts-implementation", metavar="KIND",
        help="transformers: grouped_mm or eager, one after the other.  [grouped_mm from 5.0]",
    ),
    click.option(
        "--state-kernels", metavar="on|off",
        help="transformers: kernels for recurrent layers, or the PyTorch reference.  [on]",
    ),
    click.option("--cache-backend", metavar="NAME", help="transformers: quanto, hqq or fp8.  [quanto]"),
    click.option("--cache-bits", metavar="N", help="transformers: bits of a quantized cache.  [4]"),
    click.option("--cache-group", metavar="N", help="transformers: elements that share a scale.  [64]"),
    click.option("--cache-residual", metavar="TOKENS", help="transformers: newest tokens in 16 bit.  [128]"),
)  # fmt: skip

engine_options = stack(
    llama_options, vllm_options, sglang_options, tensorrt_options, transformers_options
)  # fmt: skip
"""All of them: an option of another engine than the one asked for is refused by name."""


def made_options() -> list[click.Parameter]:
    """All of them, made, in the order in which they read."""

    @engine_options
    def bearer() -> None: ...

    return list(reversed(bearer.__click_params__))  # type: ignore[attr-defined]
