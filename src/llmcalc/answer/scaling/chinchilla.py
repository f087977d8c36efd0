"""`llmcalc.chinchilla`: how to split a training budget between parameters and tokens."""

from __future__ import annotations

import math
from typing import Any

from llmcalc.answer.scaling.asked import Asked, Counts, bare_counts, counts_of, read
from llmcalc.answer.scaling.plan import Plan, plan, rule_of_20
from llmcalc.answer.scaling.shown import fill
from llmcalc.answer.scaling.sweep import sweep, values_of
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, LlmcalcError, Problems
from llmcalc.report.call import Call
from llmcalc.report.sheet import Sheet
from llmcalc.scaling.laws import all_laws
from llmcalc.units import parse_count

ModelLike = Any
"""As in `llmcalc.api`."""


def chinchilla(
    model: ModelLike = None,
    *,
    compute: Any = None,
    params: Any = None,
    tokens: Any = None,
    loss: Any = None,
    gpu: str | None = None,
    days: Any = None,
    mfu: Any = None,
    dtype: str | None = None,
    law: Any = None,
    inference_tokens: Any = None,
    unique_tokens: Any = None,
    active_ratio: Any = None,
    experts: Any = None,
    config: Any = None,
    assume: str | None = None,
    catalog: Any = None,
) -> Sheet:
    """Parameters, tokens and loss of a training budget, by scaling laws.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory, optional
        A model, or a bare number of parameters: active ones of a mixture. [params]
    compute : float or str, optional
        Training compute: ``1e21``, ``3PF-days``. [FLOP]
    tokens : int or str, optional
        Training tokens: ``15t``. [tokens]
    loss : float, optional
        Loss wanted, in the law's own tokens. [nats/token]
    gpu, days, mfu, dtype : optional
        A budget as ``8xh100-80gb``, days, share of the peak over all hours (as published runs of that
        size, the default of `llmcalc.cost`) and dtype of matrix products (bf16); without days, how long it
        takes. [-], [days], [-], [-]
    law : str or sequence of str, optional
        ``besiroglu-2024`` with three others beside it, if left out; ``all``.
    inference_tokens : int or str, optional
        Tokens served over the model's life: what costs least to train and serve. [tokens]
    unique_tokens : int or str, optional
        Tokens there are; more means repeating them. [tokens]
    active_ratio, experts : optional
        Of a mixture: active over all parameters, or experts of a layer of which one is active. [-]
    assume : str, optional
        Family of an unknown `model_type`.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Sheet
        ``params``, ``tokens``, ``tokens_per_param``, ``loss``, ``compute`` with their ranges; ``laws``, one
        row for each law.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy: also for budgets that contradict each other.

    Notes
    -----
    Compute, parameters, tokens and loss may be arrays: figures are then arrays too.
    One of them gives the optimum; two give a run and what it lacks to the
    optimum. C = 6 N D. Intervals are 80 %, from the law's own uncertainty where it has one.

    Examples
    --------
    The Gopher budget under approach 3 of Hoffmann et al., who state 40 B parameters:

    >>> found = chinchilla(compute=5.76e23, law="hoffmann-2022-3")
    >>> round(found.params / 1e9, 1), round(found.tokens_per_param, 1)
    (40.4, 58.9)

    Llama-3.1-8B on 15 T tokens is far past the optimum:

    >>> found = chinchilla("llama-3.1-8b", tokens="15t")
    >>> round(found.off_optimum["tokens_ratio"], 1)
    10.1
    """
    given = dict(locals())
    book = _book(catalog)
    several = values_of(given)
    if several:
        found = sweep(chinchilla, given, several)
        found.sign(Call("chinchilla", given), book)
        return found
    asked = _asked(given, book)
    sheet = Sheet("chinchilla")
    plans: list[Plan] = []
    problems = Problems()
    for one in asked.laws:
        try:
            plans.append(plan(one, asked))
        except LlmcalcError as error:
            if one is asked.laws[0] and not (asked.named and len(asked.laws) > 1):
                raise
            problems.found.append(error)
            sheet.left_out.append(f"{one.name} is left out: {error.problem}")
    if not plans:
        problems.check()
    if law == "all":
        shown = {one.name for one in asked.laws}
        others = ", ".join(one.name for one in all_laws(book, "optimum") if one.name not in shown)
        sheet.left_out.append(f"Of another setting, so not in the table: {others}; --law NAME asks one.")
    _tell(sheet, asked, plans)
    sheet.sign(Call("chinchilla", given), book)
    fill(sheet, asked, plans)
    return sheet


def _book(catalog: Any) -> Catalog:
    if isinstance(catalog, Catalog):
        return catalog
    return Catalog([catalog] if isinstance(catalog, str) else list(catalog or ()))


def read_counts(given: dict[str, Any], book: Catalog) -> Counts | None:
    """Parameters of the model that was named, or of a bare number; None without either."""
    model, params, config = given.get("model"), given.get("params"), given.get("config")
    if params is not None and model is None and config is None:
        return bare_counts(float(parse_count(params)))
    if model is None and params is None and config is None:
        return None
    from llmcalc.model import readers
    from llmcalc.precision import stored_as_declared

    found = stored_as_declared(readers.read_only(model, params, config, given.get("assume"), book), book)
    if found.is_opaque:
        return bare_counts(float(found.params))
    return counts_of(found)


def _asked(given: dict[str, Any], book: Catalog) -> Asked:
    problems = Problems()
    counts: Counts | None = None
    with problems:
        counts = read_counts(given, book)
    try:
        asked = read(book, given, counts)
    except LlmcalcError as error:
        problems.found += error.parts or (error,)
    problems.check()
    budget = [asked.compute, asked.counts, asked.tokens, asked.loss]
    if all(value is None for value in budget):
        raise InputError(
            "There is no budget to split.",
            "Give one of --compute 1e21, --params 7b, --tokens 1t, --loss 2.1,"
            " or --gpu 8xh100-80gb --days 30.",
        )
    if asked.unique is not None:
        if not any(law.form == "repeated" for law in asked.laws):
            raise InputError(
                f"{asked.laws[0].name} says nothing of repeated tokens.",
                "Use --law muennighoff-2023 with --unique-tokens, or leave --law out.",
            )
        if asked.loss is not None:
            raise InputError(
                "--unique-tokens and --loss can't be asked together.",
                "Give --compute, --params or --tokens with --unique-tokens.",
            )
    return asked


def _tell(sheet: Sheet, asked: Asked, plans: list[Plan]) -> None:
    """The machine-readable answer."""
    first = plans[0]
    mixture = {"experts": asked.experts} if first.law.form == "joint-moe" else {}
    rows = [one.to_dict() for one in plans]
    time = None if asked.hardware is None else asked.hardware.days_for(first.compute)
    sheet.data = {
        "scenario": asked.scenario(),
        **{key: value for key, value in rows[0].items() if key != "status"},
        "interval_percent": 80,
        "rule_of_20": rule_of_20(first.compute, first.law, mixture),
        "hardware": None,
        "nearest_models": _nearest(first, asked),
        "laws": rows,
    }
    if asked.hardware is not None:
        sheet.data["hardware"] = {**asked.hardware.to_dict(), "days": time}
    sheet.frame = [
        {key: value for key, value in _flat(row).items() if not isinstance(value, (dict, list))}
        for row in rows
    ]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its ranges as two columns."""
    made: dict[str, Any] = {}
    for key, value in row.items():
        if key.endswith("_range") and key != "outside_range":
            low, high = value or (None, None)
            made |= {f"{key[:-6]}_low": low, f"{key[:-6]}_high": high}
        elif key == "outside_range":
            made["outside"] = "; ".join(value)
        else:
            made[key] = value
    made.pop("off_optimum"), made.pop("inference"), made.pop("repeated")
    return made


def _nearest(first: Plan, asked: Asked) -> list[dict[str, Any]]:
    """Catalog models nearest in size, by all their parameters."""
    if asked.counts is not None and asked.counts.name:
        return []
    size = first.total or first.params
    if not 1e6 <= size <= 1e14:
        return []
    rows = [(int(row[0]), row[2]) for row in asked.book.table("model_spans")]
    rows.sort(key=lambda row: abs(math.log(row[0] / size)))
    return [{"name": name, "params": count} for count, name in rows[:3]]
