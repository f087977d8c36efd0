"""``vllm serve`` with the options that define a plan, and those that are no default."""

from __future__ import annotations

import json
from typing import Any

from llmcalc.answer.serving import Plan

ONLINE = {"fp8": "fp8", "bitsandbytes4": "bitsandbytes"}
"""Methods that vLLM quantizes to while it loads, by its names."""

STORED = {
    "awq": "awq_marlin", "gptq": "gptq_marlin", "pack_quantized": "compressed-tensors",
    "int8_channel": "compressed-tensors", "nvfp4": "modelopt_fp4", "gpt_oss": "mxfp4", "gguf": "gguf",
    "int8_rows": "bitsandbytes", "hqq": "hqq", "torchao": "torchao", "mx": "quark",
}  # fmt: skip
"""Methods whose weights it reads from a checkpoint stored so."""

CACHES = {
    "bf16": "bfloat16", "fp16": "float16", "fp8-token-head": "fp8_per_token_head",
    "int8-token-head": "int8_per_token_head", "int4-token-head": "int4_per_token_head",
}  # fmt: skip
"""Formats of the cache by vLLM's names, where they differ."""

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def words(plan: Plan) -> list[Any]:
    """The words of ``vllm serve``."""
    options = plan.scenario.options
    found: list[Any] = ["vllm", "serve", plan.model]
    limit = plan.inventory.context
    if limit and int(plan.scenario.context) > limit:
        found = ["env", "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1", *found]
    for name, option in (
        ("tp", "--tensor-parallel-size"), ("pp", "--pipeline-parallel-size"),
        ("dp", "--data-parallel-size"), ("dcp", "--decode-context-parallel-size"),
    ):  # fmt: skip
        if plan.get(name) not in (None, 1):
            found += [option, plan.get(name)]
    found += ["--max-model-len", int(plan.scenario.context), "--max-num-seqs", plan.get("max_num_seqs")]
    if int(plan.scenario.sequences) > plan.get("max_num_seqs") * (plan.get("dp") or 1):
        plan.notes.append("More sequences are planned than one batch takes: the others wait.")
    if options.batched is not None:
        found += ["--max-num-batched-tokens", options.batched]
    if options.pool is not None:
        found += ["--kv-cache-memory-bytes", options.pool]
    else:
        found += ["--gpu-memory-utilization", f"{float(plan.get('gpu_memory_utilization')):g}"]
    found += _formats(plan)
    found += ["--block-size", options.block] if options.block is not None else []
    for is_on, option in (
        (options.eager, "--enforce-eager"),
        (options.whole_windows, "--disable-hybrid-kv-cache-manager"),
        (options.prefix, "--enable-prefix-caching"),
        (options.overlap is True, "--async-scheduling"),
        (options.overlap is False, "--no-async-scheduling"),
    ):
        found += [option] if is_on else []
    if options.drafts:
        has_own = any(group.component == "mtp" for group in plan.inventory.groups)
        draft: dict[str, Any] = {"method": "mtp"} if has_own else {"model": "DRAFT"}
        plan.notes += [] if has_own else ["DRAFT stands for the id of your draft model."]
        found += ["--speculative-config", json.dumps({**draft, "num_speculative_tokens": options.drafts})]
    return found


def _formats(plan: Plan) -> list[Any]:
    """Weights and cache, where they are not the checkpoint's own."""
    found: list[Any] = []
    scheme = plan.scenario.scheme
    if plan.is_stated("dtype"):
        found += ["--dtype", DTYPES.get(plan.scenario.dtype.name, plan.scenario.dtype.name)]
    if plan.is_stated("bits"):
        plan.notes.append("--bits names no format: choose one with --quant.")
    elif plan.is_stated("quant") and scheme is not None:
        method = str((getattr(scheme, "entry", None) or {}).get("method", "")) or "gguf"
        own = getattr(scheme, "dtype", "")
        strategy = (getattr(scheme, "entry", None) or {}).get("options", {}).get("strategy", "tensor")
        if own:
            found += ["--dtype", DTYPES.get(own, own)]
        elif scheme.name == "none":
            pass
        elif method in ONLINE and strategy == "tensor":
            found += ["--quantization", ONLINE[method]]
        else:
            found += ["--quantization", STORED.get(method, "compressed-tensors")]
            plan.notes.append(
                f"vLLM does not quantize to {scheme.name} by itself: put a checkpoint stored so in the place "
                f"of {plan.model}."
            )
    if plan.is_stated("kv_dtype", "kv_dtype_k", "kv_dtype_v"):
        kept = plan.scenario.key.name
        found += ["--kv-cache-dtype", CACHES.get(kept, kept)]
    return found
