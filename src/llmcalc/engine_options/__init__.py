"""Options of single engines: read and checked, each with what the engine itself takes for granted."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError, Problems, one_of
from llmcalc.formula import is_array

LLAMA_CPP = (
    "n_ctx", "parallel", "gpu_layers", "ubatch", "n_cpu_moe", "override_tensor", "flash_attn", "kv_unified",
    "swa_full", "tensor_split", "mla", "fit", "mmproj", "no_mmproj_offload", "lora", "draft", "draft_quant",
    "draft_max", "repack",
)  # fmt: skip
"""Keywords that are llama.cpp's own."""

OLLAMA = {
    "parallel": "OLLAMA_NUM_PARALLEL",
    "gpu_layers": "num_gpu",
    "ubatch": "num_batch",
    "flash_attn": "OLLAMA_FLASH_ATTENTION",
}
"""Keywords that Ollama has too, with its names for them."""

VLLM = (
    "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "enforce_eager", "block_size",
    "disable_hybrid_kv_cache_manager", "enable_prefix_caching", "num_speculative_tokens",
    "async_scheduling", "dcp", "kv_cache_memory", "max_loras", "max_lora_rank",
)  # fmt: skip
"""Keywords that are vLLM's own."""

SGLANG = (
    "mem_fraction_static", "chunked_prefill_size", "cuda_graph_max_bs", "max_running_requests",
    "swa_full_tokens_ratio", "mamba_full_memory_ratio", "page_size", "disable_radix_cache",
    "disable_cuda_graph", "enable_dp_attention", "speculative_num_draft_tokens", "max_mamba_cache_size",
    "max_total_tokens", "disable_hybrid_swa_memory", "mamba_ssm_dtype",
)  # fmt: skip
"""Keywords that are SGLang's own."""

TENSORRT_LLM = ("free_gpu_memory_fraction", "tokens_per_block", "max_batch_size", "max_num_tokens")
"""Keywords that are TensorRT-LLM's own."""

SHARED = (
    "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "enforce_eager", "block_size",
)  # fmt: skip
"""Keywords of vLLM that ask other servers for the same."""

TRANSFORMERS = (
    "cache", "attention", "max_cache_len", "logits_to_keep", "prefill_chunk_size", "padding",
    "experts_implementation", "state_kernels", "cache_backend", "cache_bits", "cache_group", "cache_residual",
)  # fmt: skip
"""Keywords that are transformers' own."""
BESIDE_KEYS = ("draft", "draft_quant", "lora", "max_loras", "max_lora_rank")
"""Keywords of drafts and adapters."""

BESIDE = ("none", "vllm", "sglang", "tensorrt-llm")
"""Engines whose drafts and adapters are no files of their own."""

OWNERS: dict[str, tuple[str, ...]] = {
    keyword: ("llama.cpp", "ollama") if keyword in OLLAMA else ("llama.cpp",) for keyword in LLAMA_CPP
}
OWNERS |= dict.fromkeys(VLLM, ("vllm",))
OWNERS |= dict.fromkeys(SGLANG, ("sglang",))
OWNERS |= dict.fromkeys(TENSORRT_LLM, ("tensorrt-llm",))
OWNERS |= dict.fromkeys(SHARED, ("vllm", "sglang", "tensorrt-llm"))
OWNERS["num_speculative_tokens"] = ("vllm", "sglang")
OWNERS |= dict.fromkeys(TRANSFORMERS, ("transformers",))
OWNERS |= dict.fromkeys(("draft", "draft_quant"), ("llama.cpp", *BESIDE))
OWNERS["lora"] = ("llama.cpp", "none", "vllm", "sglang")
OWNERS |= dict.fromkeys(("max_loras", "max_lora_rank"), ("vllm", "sglang"))
"""The engines that know each keyword."""

LISTS = ("lora", "override_tensor", "tensor_split")
"""Keywords of several values."""

OLLAMA_BUILD = 10_488
"""The llama.cpp build that Ollama of August 2026 starts."""


def check_owners(engine: str, given: dict[str, Any]) -> None:
    """Refuse options that are another engine's.

    Raises
    ------
    InputError
        With the engines that know the option.
    """
    problems = Problems()
    for keyword, owners in OWNERS.items():
        with problems:
            _check_owner(engine, keyword, owners, given.get(keyword))
    problems.check()


def _check_owner(engine: str, keyword: str, owners: tuple[str, ...], value: Any) -> None:
    option = "-ot" if keyword == "override_tensor" else f"--{keyword.replace('_', '-')}"
    if is_array(value) and not (keyword in LISTS and isinstance(value, (list, tuple))):
        raise InputError(
            f"{keyword} is one value, not an array.", "Arrays are for context and sequences; loop over it."
        )
    if engine in owners or value is None or value is False:
        return
    remedy = f"Add --engine {one_of(owners)}, or leave {option} out."
    if engine == "ollama":
        remedy = f"Use --engine llama.cpp, or leave {option} out."
        if keyword == "n_ctx":
            remedy = "Use --context for num_ctx, the tokens of one sequence, and --parallel."
    raise InputError(f"{option} is an option of {one_of(owners, 'and')}, not of --engine {engine}.", remedy)


def beside_of(engine: str, given: dict[str, Any]) -> Any:
    """Drafts and adapters, where there are some and the engine reads no files of its own."""
    if engine not in BESIDE or all(given.get(key) is None for key in BESIDE_KEYS):
        return None
    from llmcalc.engine_options.beside import beside_options

    return beside_options(engine, given)


def engine_options(scenario: Any, given: dict[str, Any]) -> Any:
    """The engine's own options; llama.cpp's slots and total context settle sequences and context.

    Parameters
    ----------
    scenario : Scenario
        With engine, sequences and context; the latter two may be changed.
    given : dict
        Keywords; None means not given.
    """
    if scenario.engine == "vllm":
        from llmcalc.engine_options.vllm import vllm_options

        return vllm_options(given)
    if scenario.engine == "sglang":
        from llmcalc.engine_options.sglang import sglang_options, share_ranks

        found = sglang_options(given)
        share_ranks(scenario, found)
        return found
    if scenario.engine == "tensorrt-llm":
        from llmcalc.engine_options.tensorrt_llm import tensorrt_llm_options

        return tensorrt_llm_options(given)
    if scenario.engine == "transformers":
        from llmcalc.engine_options.transformers import transformers_options

        return transformers_options(given)
    if scenario.engine not in ("llama.cpp", "ollama"):
        if given["engine_version"] is not None:
            raise InputError(
                f"--engine {scenario.engine} has no versions.",
                "Leave --engine-version out, or name an engine.",
            )
        return None
    if scenario.engine == "ollama" and given["engine_version"] is not None:
        raise InputError(
            "--engine ollama is Ollama as of August 2026; other versions are not modelled.",
            "Leave --engine-version out.",
        )
    from llmcalc.engine_options.llama import llama_options

    options = llama_options(given)
    if scenario.engine == "ollama":
        options.fit, options.build = options.gpu_layers is None, OLLAMA_BUILD
    many = scenario.sequences
    if options.parallel is not None and not is_array(many):
        if "sequences" in scenario.stated and many > options.parallel:
            raise InputError(
                f"--sequences {many} is more than the {options.parallel} slots of --parallel.",
                f"Use --parallel {many}.",
            )
        scenario.sequences = options.parallel
    if options.n_ctx is not None:
        if scenario.stated & {"context", "max_model_len", "prompt", "output"}:
            raise InputError("--n-ctx and --context are given together.", "Keep one of them.")
        slots = options.parallel or scenario.sequences
        scenario.context = options.n_ctx if options.kv_unified else options.n_ctx // slots
    return options
