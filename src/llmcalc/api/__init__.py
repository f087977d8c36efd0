"""The public functions: each reads a model, resolves a scenario and answers one question."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from llmcalc.answer.params import params_report
from llmcalc.answer.vram import count_report, model_report
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, Problems
from llmcalc.hardware import Device
from llmcalc.model import readers
from llmcalc.model.inventory import Inventory
from llmcalc.model.readers.count import read_count
from llmcalc.precision import stored_as_declared
from llmcalc.report import Call, Report, Reports
from llmcalc.scenario import Scenario, resolve

__all__ = ["model", "params", "vram"]

ModelLike = Any
"""An `Inventory`, a catalog name, alias or Hugging Face id, a path, a count such as ``13b``, or a dict."""


def _catalog(files: str | Sequence[str] | Catalog | None) -> Catalog:
    if isinstance(files, Catalog):
        return files
    return Catalog([files] if isinstance(files, str) else list(files or ()))


def model(source: ModelLike, *, assume: str | None = None, catalog: Any = None) -> Inventory:
    """Read a model into its inventory.

    Parameters
    ----------
    source : str, dict, int or Inventory
        In this order: an existing path (``config.json`` or a folder with one), a catalog name, alias
        or Hugging Face id, a count such as ``13b``; or the dict of a configuration; ``-`` is
        standard input.
    assume : str, optional
        Family to read a configuration as, where its `model_type` is unknown.
    catalog : str or sequence of str, optional
        YAML files with models and GPUs of your own.

    Returns
    -------
    Inventory
        With ``params``, ``active_params``, ``stored_params``, ``tensors`` and ``caches``.

    Raises
    ------
    UnknownNameError, ConfigError, InputError
        With the remedy.

    Examples
    --------
    >>> model("llama-3.1-8b").params
    8030261248
    """
    book = _catalog(catalog)
    return stored_as_declared(readers.read(source, book, assume), book)


def vram(
    model: ModelLike = None,
    *,
    params: Any = None,
    config: Any = None,
    dtype: str | None = None,
    quant: str | None = None,
    bits: Any = None,
    overhead: Any = None,
    context: Any = None,
    max_model_len: Any = None,
    sequences: Any = None,
    prompt: Any = None,
    output: Any = None,
    shared_prefix: Any = None,
    samples: Any = None,
    beams: Any = None,
    encoder_tokens: Any = None,
    image_tokens: Any = None,
    images: Any = None,
    kv_dtype: str | None = None,
    kv_dtype_k: str | None = None,
    kv_dtype_v: str | None = None,
    engine: str | None = None,
    gpu: Any = None,
    reserve: Any = None,
    tp: Any = None,
    pp: Any = None,
    dp: Any = None,
    engine_version: Any = None,
    n_ctx: Any = None,
    parallel: Any = None,
    gpu_layers: Any = None,
    ubatch: Any = None,
    n_cpu_moe: Any = None,
    override_tensor: Any = None,
    tensor_split: Any = None,
    flash_attn: Any = None,
    kv_unified: Any = None,
    swa_full: Any = None,
    mla: Any = None,
    fit: Any = None,
    mmproj: Any = None,
    no_mmproj_offload: bool = False,
    lora: Any = None,
    draft: Any = None,
    draft_quant: str | None = None,
    draft_max: Any = None,
    repack: Any = None,
    gpu_memory_utilization: Any = None,
    max_num_seqs: Any = None,
    max_num_batched_tokens: Any = None,
    enforce_eager: Any = None,
    block_size: Any = None,
    disable_hybrid_kv_cache_manager: Any = None,
    enable_prefix_caching: Any = None,
    num_speculative_tokens: Any = None,
    async_scheduling: Any = None,
    dcp: Any = None,
    kv_cache_memory: Any = None,
    mem_fraction_static: Any = None,
    chunked_prefill_size: Any = None,
    cuda_graph_max_bs: Any = None,
    max_running_requests: Any = None,
    swa_full_tokens_ratio: Any = None,
    mamba_full_memory_ratio: Any = None,
    page_size: Any = None,
    disable_radix_cache: Any = None,
    disable_cuda_graph: Any = None,
    enable_dp_attention: Any = None,
    speculative_num_draft_tokens: Any = None,
    max_mamba_cache_size: Any = None,
    max_total_tokens: Any = None,
    disable_hybrid_swa_memory: Any = None,
    mamba_ssm_dtype: Any = None,
    free_gpu_memory_fraction: Any = None,
    tokens_per_block: Any = None,
    max_batch_size: Any = None,
    max_num_tokens: Any = None,
    cache: str | None = None,
    attention: str | None = None,
    max_cache_len: Any = None,
    logits_to_keep: Any = None,
    prefill_chunk_size: Any = None,
    padding: Any = None,
    experts_implementation: str | None = None,
    state_kernels: Any = None,
    cache_backend: str | None = None,
    cache_bits: Any = None,
    cache_group: Any = None,
    cache_residual: Any = None,
    max_loras: Any = None,
    max_lora_rank: Any = None,
    with_models: Any = None,
    ensemble: Any = None,
    allow_overlong: bool = False,
    assume: str | None = None,
    catalog: Any = None,
) -> Report | Reports:
    """Memory of a model at inference: weights, KV cache, state and runtime, per GPU at the peak.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory
        The model (one of the three): anything `llmcalc.model` takes, a count, a configuration.
    dtype : str, optional
        Dtype of unquantized weights; the checkpoint's own, else bf16 (assumed).
    quant : str, optional
        A scheme by name: ``q4_k_m``, ``awq``, ``nf4`` ...; `llmcalc formats` lists them. The checkpoint's
        own where its configuration states one; ``none`` prices it unquantized.
    bits : number, optional
        Bits of every parameter, graded assumed. [bit]
    overhead : number, optional
        Factor of the rule of thumb, for a bare count only; 1.2. [-]
    context, max_model_len : int, str or ndarray, optional
        Tokens of one sequence; the smaller of the model's limit and 8,192. [tokens]
    sequences : int or ndarray
        Sequences held at once; 1. [-]
    prompt, output : int, str or sequence, optional
        Instead of the context, which is their sum; a list, a distribution such as
        ``lognormal(mean=1k, p95=3k)`` or a file gives expected, 95th percentile and worst. [tokens]
    shared_prefix, samples, beams : int or str, optional
        What all prompts share; outputs or beams of each that are held together. [tokens], [-]
    encoder_tokens, image_tokens, images : int or str, optional
        Tokens that the encoder reads, tokens of one image, and images of a request. [tokens], [-]
    kv_dtype, kv_dtype_k, kv_dtype_v : str, optional
        Format of keys and values; 16 bit.
    engine : str
        ``none`` (the default): the architecture's minimum plus an assumed runtime; ``transformers``:
        weights, its caches and the tensors of prefill and decode; ``llama.cpp``: every buffer that it
        prints; ``mlx``: the peak that mlx-lm reports on a Mac; ``vllm``: weights, profiled peak, CUDA graphs
        and a pool of pages; ``sglang``, ``tensorrt-llm``: weights and pools, and the share that they take.
    engine_version : str, optional
        The engine's build or release; the newest it was measured on.
    n_ctx, parallel, gpu_layers, ubatch, n_cpu_moe, override_tensor, tensor_split : optional
        llama.cpp's own: its context over all slots, slots, layers on GPUs (the output first), physical
        batch, layers whose experts stay on the CPU, ``pattern=buffer``, shares of the GPUs. [tokens], [-]
    flash_attn, kv_unified, swa_full, mla : bool, optional
        llama.cpp's own: True, False, False, and True where latent attention caches its latent.
    fit : bool, optional
        What llama-server chooses by itself: context, layers on GPUs, experts on the CPU; False.
    mmproj, no_mmproj_offload, draft_max, repack : optional
        llama.cpp's own: a projector (True or a file) and whether the CPU keeps it, tokens drafted at once,
        and the CPU whose re-laid weights are told apart (True, ``avx2``, ``avx512``, ``neon``). [-]
    lora, draft, draft_quant : optional
        Adapters (``r=16``; files for llama.cpp), a draft model, ``mtp``, ``eagle``, ``eagle3`` or the
        configuration of such a head, and its scheme. [-]
    gpu_memory_utilization, max_num_seqs, max_num_batched_tokens, block_size : optional
        vLLM's own: its share of a GPU, sequences and tokens of one batch, tokens of a block. [-], [tokens]
    enforce_eager, disable_hybrid_kv_cache_manager, enable_prefix_caching, async_scheduling : bool, optional
        vLLM's own: no CUDA graphs (False), whole caches for windows (False), states kept for prefix
        caching (False), two batches in flight (as the release does).
    num_speculative_tokens, dcp, kv_cache_memory, max_loras, max_lora_rank : optional
        vLLM's own: tokens drafted ahead, ranks that share a cache's tokens, the pool's size where it is
        set by hand, room for adapters. [tokens], [-], [B], [-]
    mem_fraction_static, swa_full_tokens_ratio, mamba_full_memory_ratio : float, optional
        SGLang's own: the share of free memory for weights and pools, tokens of the window pool for each of
        the full one, and state memory for each byte of the KV cache. [-]
    chunked_prefill_size, page_size, max_total_tokens, max_running_requests, cuda_graph_max_bs : optional
        SGLang's own: tokens of a prefill chunk, of a page and of the pool, requests at once, and the
        largest captured batch. [tokens], [-]
    max_mamba_cache_size, mamba_ssm_dtype, speculative_num_draft_tokens : optional
        SGLang's own: state slots, what states are kept in, draft tokens of a step. [-]
    disable_radix_cache, disable_cuda_graph, enable_dp_attention, disable_hybrid_swa_memory : bool, optional
        SGLang's own: no prefix caching, no CUDA graphs, attention in replicas that share the tensor ranks,
        windows kept whole; all False.
    free_gpu_memory_fraction, tokens_per_block, max_batch_size, max_num_tokens : optional
        TensorRT-LLM's own: the share of what weights and a dummy batch leave, tokens of a block, sequences
        and tokens of a batch. [-], [tokens]
    cache, attention : str, optional
        transformers' own: its cache (``dynamic``, ``static``, ``quantized``, ``offloaded``), and ``eager``,
        ``sdpa`` or ``flash`` attention.
    max_cache_len, logits_to_keep, prefill_chunk_size, padding, experts_implementation, state_kernels
        transformers' own: length of a static cache, last tokens with logits (0 for all), prompt tokens of
        one pass, whether prompts are padded, how experts are run, whether recurrent layers have kernels
        of their own (True). [tokens]
    cache_backend, cache_bits, cache_group, cache_residual : optional
        Of transformers' quantized cache: ``quanto``, ``hqq`` or ``fp8``, bits, elements of a group, newest
        tokens in 16 bit. [bit], [-], [tokens]
    gpu : str or sequence of str, optional
        ``rtx-4090``, ``8xh100-80gb``, ``h100:3g.40gb``, ``24GiB``; several give one row each. ``auto`` is all
        GPUs of this machine with what they have free now.
    reserve : int or str
        Memory that others use on each GPU; 0. [B]
    tp, pp, dp : int, optional
        Tensor ranks, pipeline stages, replicas; with N GPUs and none given, ``tp = N``. [-]
    with_models, ensemble : optional
        Other models on the same GPUs (``name`` or ``name@scheme``); members of an ensemble. [-]
    allow_overlong : bool
        Whether the context may exceed the model's limit.
    assume : str, optional
        Family of an unknown `model_type`.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Report or Reports
        One report, or one for each GPU where several are named.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy.

    Notes
    -----
    The minimum is exact where the architecture is known; the runtime is assumed at 0.5 to 1.5 GiB,
    so totals are ranges. Engines reserve more than the minimum.

    Examples
    --------
    The KV cache of Llama-3.1-8B at 8,192 tokens in 16 bit is 1 GiB:

    >>> vram("llama-3.1-8b", context="8k")["kv_cache"].bytes
    1073741824
    """
    asked = dict(locals())
    given = {
        key: value for key, value in asked.items() if key not in ("model", "params", "config", "catalog")
    }
    book = _catalog(catalog)
    inventory, scenario = _understand(model, params, config, assume, book, given)
    make = count_report if inventory.is_opaque else model_report
    devices: list[Device | None] = [*scenario.devices] or [None]
    reports = [make(inventory, scenario, device, book, given) for device in devices]
    for device, report in zip(devices, reports, strict=True):
        report.plan = inventory, scenario
        report.later = partial(_help, report, inventory, scenario, device, book, given)
        report.sign(Call("vram", asked), book)
    return reports[0] if len(reports) == 1 else Reports(reports)


def _help(report: Report, *asked: Any) -> None:
    """What would help where it does not surely fit; without a GPU the smallest cards."""
    if report.device is None or (isinstance(report.verdict, str) and report.verdict != "fits"):
        from llmcalc.answer.advice import help_it

        help_it(report, *asked)


def _understand(
    model: ModelLike,
    params: Any,
    config: Any,
    assume: str | None,
    book: Catalog,
    given: dict[str, Any],
    strict: bool = True,
) -> tuple[Inventory, Scenario]:
    """Read the model and resolve the rest, telling the mistakes of both together."""
    problems = Problems()
    inventory = None
    with problems:
        inventory = stored_as_declared(readers.read_only(model, params, config, assume, book), book)
    with problems:
        # Without a model, whatever does not depend on it is still checked.
        scenario = resolve(inventory or read_count(1), book, given, strict)
    problems.check()
    assert inventory is not None
    return inventory, scenario


def params(
    model: ModelLike = None,
    *,
    params: Any = None,
    config: Any = None,
    dtype: str | None = None,
    quant: str | None = None,
    bits: Any = None,
    by: str | None = None,
    assume: str | None = None,
    catalog: Any = None,
) -> Report:
    """Parameters of a model by role, all and active.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory
        The model: anything `llmcalc.model` takes.
    dtype, quant, bits : str, str, number, optional
        For the bytes beside the counts; the checkpoint's dtype, else bf16.
    by : str
        ``role`` (the default), ``layer``, or ``tag``: the model itself and what is stored beside it.
    assume : str, optional
        Family of an unknown `model_type`.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Report
        Items by role, each with ``inputs["parameters"]``; bytes at the dtype.

    Examples
    --------
    GPT-3's published matrices:

    >>> params("gpt-3")["up"].inputs["parameters"]
    57982058496
    """
    asked = dict(locals())
    book = _catalog(catalog)
    given = {"dtype": dtype, "quant": quant, "bits": bits}
    if by not in (None, "role", "layer", "tag"):
        raise InputError(f"--by {str(by)[:40]!r} is not known.", "Use role, layer or tag.")
    inventory, scenario = _understand(model, params, config, assume, book, given, strict=False)
    report = params_report(inventory, scenario, book, by or "role")
    report.sign(Call("params", asked), book)
    return report
