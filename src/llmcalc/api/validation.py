"""`llmcalc.validate`: predictions published beside measurements."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.validate import LogValidation, Validation, validate_log, validate_runs
from llmcalc.api import ModelLike, _catalog, vram
from llmcalc.api import model as read_model
from llmcalc.errors import InputError


def validate(
    model: ModelLike = None,
    *,
    log: Any = None,
    era: Any = None,
    engine: Any = None,
    by: str = "engine",
    quant: str | None = None,
    context: Any = None,
    n_ctx: Any = None,
    parallel: Any = None,
    gpu_layers: Any = None,
    ubatch: Any = None,
    n_cpu_moe: Any = None,
    override_tensor: Any = None,
    tensor_split: Any = None,
    flash_attn: Any = None,
    kv_unified: Any = None,
    kv_dtype_k: Any = None,
    kv_dtype_v: Any = None,
    mla: Any = None,
    engine_version: Any = None,
    catalog: Any = None,
) -> Validation | LogValidation:
    """Predict runs that were measured: the published ones, or the one of a log.

    Parameters
    ----------
    model : str or Inventory, optional
        With a log: what it loads, where its own name is not the catalog's.
    log : str or path, optional
        A start-up log of llama.cpp, ik_llama.cpp, Ollama, vLLM or SGLang; without one the published runs.
    era : str or sequence of str, optional
        Only builds of these years: ``2026``, ``2025``, ``2024``, ``2023``, ``ik``, ``mlx``.
    engine : str or sequence of str, optional
        Only runs of these engines: ``llama.cpp``, ``mlx``, ``vllm`` ...; ``training`` for runs of training.
    by : str
        How starts of servers are summed up: by ``engine``, ``version`` or ``source``.
    quant, context, n_ctx, parallel, gpu_layers, ubatch, n_cpu_moe, override_tensor, tensor_split
        With a log: what it does not print, as in `llmcalc.vram`.
    flash_attn, kv_unified, kv_dtype_k, kv_dtype_v, mla, engine_version
        The same.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Validation or LogValidation
        With ``summaries`` and ``rows``.

    Raises
    ------
    LlmcalcError
        For a log of another program, one that is cut before any size, a model that is not known;
        for options of a log without one, and years with one.

    Examples
    --------
    KV caches of the logs of 2023 are predicted to the last byte:

    >>> [summary.worst for summary in validate(era="2023").summaries if summary.quantity == "kv_cache"]
    [0.0]

    Bytes of vLLM's cache for each token, 90th percentile of the errors:

    >>> found = validate(engine="vllm").server_summaries
    >>> [one.p90 < 0.001 for one in found if one.quantity == "kv_bytes_per_token"]
    [True]
    """
    more = {
        "quant": quant, "context": context, "n_ctx": n_ctx, "parallel": parallel, "gpu_layers": gpu_layers,
        "ubatch": ubatch, "n_cpu_moe": n_cpu_moe, "override_tensor": override_tensor,
        "tensor_split": tensor_split, "flash_attn": flash_attn, "kv_unified": kv_unified,
        "kv_dtype_k": kv_dtype_k, "kv_dtype_v": kv_dtype_v, "mla": mla, "engine_version": engine_version,
    }  # fmt: skip
    told = {name: value for name, value in more.items() if value is not None}
    if log is None and model is not None:
        raise InputError("A model needs a log to be compared with.", "Add --log FILE.")
    if log is None and told:
        option = f"--{next(iter(told)).replace('_', '-')}"
        raise InputError(f"{option} is for a log; the published runs have theirs.", "Add --log FILE.")
    for option, value in (("--era", era), ("--engine", engine)):
        if log is not None and value is not None:
            raise InputError(f"{option} chooses among the published runs.", f"Leave {option} or --log out.")
    book = _catalog(catalog)
    if log is None:
        return validate_runs(book, vram, era, engine, by, _train)
    return validate_log(book, lambda name: read_model(name, catalog=catalog), vram, log, model, **told)


def _train(*given: Any, **options: Any) -> Any:
    """`llmcalc.train`, imported when it is used."""
    import llmcalc

    return llmcalc.train(*given, **options)
