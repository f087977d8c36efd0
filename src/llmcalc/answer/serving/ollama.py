"""``ollama serve`` with its environment; a model's own parameters are told beside it."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.serving import Plan


def words(plan: Plan) -> list[Any]:
    """The words that start Ollama; what a Modelfile holds is a note."""
    options, context = plan.scenario.options, int(plan.scenario.context)
    found: list[Any] = ["env", f"OLLAMA_CONTEXT_LENGTH={context}"]
    found.append(f"OLLAMA_NUM_PARALLEL={int(plan.scenario.sequences)}")
    found.append(f"OLLAMA_FLASH_ATTENTION={int(bool(options.flash_attn))}")
    if plan.get("kv_dtype_k") != "fp16":
        found.append(f"OLLAMA_KV_CACHE_TYPE={plan.get('kv_dtype_k')}")
    parameters = [f"num_ctx {context}"]
    if plan.is_stated("gpu_layers"):
        parameters.append(f"num_gpu {options.gpu_layers if options.gpu_layers is not None else 999}")
    if plan.is_stated("ubatch"):
        parameters.append(f"num_batch {options.ubatch}")
    scheme = str(plan.get("quant") or "").removeprefix("gguf-")
    which = f"{plan.inventory.name}{f' as {scheme}' if scheme else ''}"
    lines = "; ".join(f"PARAMETER {one}" for one in parameters)
    plan.notes.append(f"The Modelfile of {which} for the same plan: {lines}.")
    return [*found, "ollama", "serve"]
