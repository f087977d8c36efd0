"""`llmcalc.quant`: a model in many formats."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.quant import ORDERS, USUAL, quant_reports, scheme_names
from llmcalc.api import ModelLike, _catalog, _understand
from llmcalc.errors import InputError, Problems
from llmcalc.formula import is_array
from llmcalc.report import Call, Reports
from llmcalc.units import parse_bytes


def quant(
    model: ModelLike = None,
    *,
    params: Any = None,
    config: Any = None,
    schemes: Any = None,
    all_schemes: bool = False,
    sort: str | None = None,
    max_size: Any = None,
    dtype: str | None = None,
    context: Any = None,
    sequences: Any = None,
    kv_dtype: str | None = None,
    gpu: Any = None,
    reserve: Any = None,
    assume: str | None = None,
    catalog: Any = None,
) -> Reports:
    """A model in many formats: bits per weight, bytes, the smallest card, and what fits the cards named.

    Parameters
    ----------
    model, params, config : str, dict or Inventory
        The model: anything `llmcalc.model` takes but a bare count.
    schemes : str or sequence of str, optional
        Names of the schemes, separated by commas; the usual ones.
    all_schemes : bool
        Whether to take every scheme of the catalog.
    sort : str
        ``size`` (the default), ``bits`` or ``name``.
    max_size : int or str, optional
        Only those whose weights take at most this. [B]
    dtype : str, optional
        Dtype of what stays unquantized.
    context, sequences, kv_dtype, gpu, reserve
        As in `vram`: for the smallest card and the verdicts.
    assume, catalog
        As in `model`.

    Returns
    -------
    Reports
        One report a scheme, each with its ``scheme``: name, bits, bytes, hardware, verdicts.

    Examples
    --------
    Llama-3-8B as Q4_K_M, as llama.cpp prints it, in MiB:

    >>> quant("llama-3-8b", schemes="q4_k_m")[0].scheme["weights_bytes"] / 2**20
    4685.3046875
    """
    asked = dict(locals())
    book = _catalog(catalog)
    given = {
        "dtype": dtype, "context": context, "sequences": sequences, "kv_dtype": kv_dtype, "gpu": gpu,
        "reserve": reserve,
    }  # fmt: skip
    problems = Problems()
    with problems:
        if sort is not None and sort not in ORDERS:
            raise InputError(f"--sort {str(sort)[:40]!r} is not known.", f"Use {', '.join(ORDERS)}.")
    most = None
    with problems:
        most = None if max_size is None else parse_bytes(max_size, "--max-size")
    names: tuple[str, ...] = USUAL
    if schemes is not None:
        with problems:
            names = scheme_names(schemes)
    elif all_schemes:
        names = ("none", *(str(entry["name"]) for entry in book.entries("schemes")))
    with problems:
        inventory, scenario = _understand(model, params, config, assume, book, given, strict=False)
        if is_array(scenario.context) or is_array(scenario.sequences):
            raise InputError("The table of formats takes one context.", "Give one value of each.")
    problems.check()
    reports = quant_reports(inventory, scenario, book, given, names, sort or "size", most)
    for report in reports:
        report.sign(Call("quant", asked), book)
    return Reports(reports)
