"""`llmcalc.fit`: does it fit, and what would make it."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.advice import help_it
from llmcalc.answer.fit import advise
from llmcalc.answer.vram import count_report, model_report
from llmcalc.api import ModelLike, _catalog, _understand
from llmcalc.errors import InputError
from llmcalc.report import Call, Report, Reports


def fit(model: ModelLike = None, *, gpu: Any = None, **keywords: Any) -> Report | Reports:
    """Whether a model fits each of some GPUs, and what would make it fit.

    Parameters
    ----------
    model : str, dict, number or Inventory
        Anything `llmcalc.model` takes; or ``params`` or ``config`` among the keywords.
    gpu : str or sequence of str
        Cards: ``rtx-4090``, ``2xrtx-3090``, ``24GiB``, ``auto``; several give one row each.
    **keywords
        Those of `llmcalc.vram`.

    Returns
    -------
    Report or Reports
        As `llmcalc.vram`, with ``advice``: the finest format that fits, the longest context.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy.

    Examples
    --------
    Llama-3.1-8B in 16 bit does not fit a card of 12 GB; as Q8_0 it does:

    >>> report = fit("llama-3.1-8b", gpu="rtx-3060", engine="llama.cpp", context=8192)
    >>> report.verdict, report.advice[0]
    ('does_not_fit', 'finest format that fits: --quant q8_0')
    """
    if gpu is None:
        raise InputError("fit needs a GPU to try.", "Add --gpu, such as --gpu rtx-4090 or --gpu auto.")
    asked = {"model": model, "gpu": gpu, **keywords}
    book = _catalog(keywords.pop("catalog", None))
    given = {"gpu": gpu, **keywords}
    source = {name: given.pop(name, None) for name in ("params", "config", "assume")}
    inventory, scenario = _understand(
        model, source["params"], source["config"], source["assume"], book, given
    )
    make = count_report if inventory.is_opaque else model_report
    reports = []
    for device in scenario.devices:
        report = make(inventory, scenario, device, book, {**dict.fromkeys(_WORKLOAD), **given})
        advise(report, inventory, scenario, device, book)
        help_it(report, inventory, scenario, device, book, given)
        report.command, report.plan = "fit", (inventory, scenario)
        report.sign(Call("fit", asked), book)
        reports.append(report)
    return reports[0] if len(reports) == 1 else Reports(reports)


_WORKLOAD = (
    "context", "max_model_len", "prompt", "output", "kv_dtype", "kv_dtype_k", "kv_dtype_v", "sequences",
    "dtype", "bits",
)  # fmt: skip
