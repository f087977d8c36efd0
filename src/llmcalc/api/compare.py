"""`llmcalc.compare`: several models in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.api import ModelLike, vram
from llmcalc.errors import InputError, Problems
from llmcalc.report import Call, Report, Reports


def compare(models: Sequence[ModelLike], **keywords: Any) -> Reports:
    """The memory of several models side by side.

    Parameters
    ----------
    models : sequence
        Two models or more: anything `llmcalc.model` takes.
    **keywords
        Those of `vram`, the same for all.

    Returns
    -------
    Reports
        One report a model (and GPU), shown as one table.

    Raises
    ------
    LlmcalcError
        With the mistakes of all models together.

    Examples
    --------
    Mixtral-8x7B holds more parameters than Llama-3.1-8B needs and uses fewer than it holds:

    >>> [report.model["active_params"] for report in compare(["llama-3.1-8b", "mixtral-8x7b"])]
    [8030261248, 12879925248]
    """
    if isinstance(models, str) or len(models) < 2:
        raise InputError("There is nothing to compare.", "Name two models or more.")
    problems = Problems()
    reports: list[Report] = []
    for one in models:
        with problems:
            found = vram(one, **keywords)
            reports += found.rows if isinstance(found, Reports) else [found]
    problems.check()
    call = Call("compare", {"models": list(models), **keywords})
    for report in reports:
        report.call = call
    return Reports(reports)
