"""``trtllm-serve`` with the options that define a plan; what only its YAML knows is told besides."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.serving import Plan, checkpoint, sizes

FILE = "options.yaml"
CACHES = {"fp8": "fp8", "nvfp4": "nvfp4"}
"""Formats of the cache by its names; the others follow the checkpoint."""


def words(plan: Plan) -> list[Any]:
    """The words of ``trtllm-serve``."""
    scenario, options = plan.scenario, plan.scenario.options
    found: list[Any] = ["trtllm-serve", plan.model]
    found += sizes({"--tp_size": plan.get("tp"), "--pp_size": plan.get("pp")})
    found += ["--max_seq_len", int(scenario.context), "--max_batch_size", options.batch]
    found += ["--max_num_tokens", options.tokens]
    share = options.fraction[0] / options.fraction[1]
    found += ["--kv_cache_free_gpu_memory_fraction", f"{share:g}"]
    if scenario.demand is not None and scenario.demand.beams:
        found += ["--max_beam_width", scenario.demand.outputs]
    checkpoint(plan, "TensorRT-LLM", {})
    lines = _lines(plan)
    if lines:
        found += ["--extra_llm_api_options", FILE]
        plan.notes.append(f"{FILE} holds: {'; '.join(lines)}")
    if (plan.get("dp") or 1) > 1:
        plan.notes.append(f"Start {plan.get('dp')} of them: replicas are servers of their own.")
    return found


def _lines(plan: Plan) -> list[str]:
    """The lines of the YAML file, one a setting."""
    options, kept = plan.scenario.options, {}
    if plan.is_stated("kv_dtype", "kv_dtype_k", "kv_dtype_v") and plan.scenario.key.name in CACHES:
        kept["dtype"] = CACHES[plan.scenario.key.name]
    if plan.is_stated("tokens_per_block", "block_size"):
        kept["tokens_per_block"] = str(options.block)
    own = ", ".join(f"{name}: {value}" for name, value in kept.items())
    found = [f"kv_cache_config: {{{own}}}"] if own else []
    if options.eager:
        found.append("cuda_graph_config: null")
    if plan.is_stated("dtype"):
        names = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
        found.append(f"dtype: {names.get(plan.scenario.dtype.name, plan.scenario.dtype.name)}")
    return found
