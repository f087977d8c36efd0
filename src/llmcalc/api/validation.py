"""`llmcalc.validate`: predictions published beside measurements."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.validate import LogValidation, Validation, validate_log, validate_runs
from llmcalc.api import ModelLike, _catalog, vram


def validate(
    model: ModelLike = None,
    *,
    log: Any = None,
    era: Any = None,
    engine: Any = None,
    by: str = "engine",
    quant: str | None = None,
    context: Any = None,
    ubatch: Any = None,
    flash_attn: Any = None,
    engine_version: Any = None,
    n_cpu_moe: Any = None,
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
        Only runs of these engines: ``llama.cpp``, ``mlx``, ``vllm`` ...
    by : str
        How starts of servers are summed up: by ``engine``, ``version`` or ``source``.
    quant, context, ubatch, flash_attn, engine_version, n_cpu_moe
        With a log: what it does not print.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Validation or LogValidation
        With ``summaries`` and ``rows``.

    Raises
    ------
    LlmcalcError
        For a log of another program, one that is cut before any size, a model that is not known.

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
    book = _catalog(catalog)
    if log is None:
        return validate_runs(book, vram, era, engine, by)
    more = {
        "quant": quant, "context": context, "ubatch": ubatch, "flash_attn": flash_attn,
        "engine_version": engine_version, "n_cpu_moe": n_cpu_moe,
    }  # fmt: skip
    return validate_log(book, vram, log, model, **more)
