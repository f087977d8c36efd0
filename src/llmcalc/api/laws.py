"""`llmcalc.law`, `laws`, `chinchilla`, `hparams`: scaling laws."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.scaling.chinchilla import chinchilla
from llmcalc.answer.scaling.hparams import hparams
from llmcalc.catalog import Catalog, fold
from llmcalc.scaling.laws import Law, all_laws, find_law

__all__ = ["chinchilla", "hparams", "law", "laws"]


def _book(catalog: Any) -> Catalog:
    if isinstance(catalog, Catalog):
        return catalog
    return Catalog([catalog] if isinstance(catalog, str) else list(catalog or ()))


def law(name: str, *, catalog: Any = None) -> Law:
    """One scaling law of the catalog.

    Parameters
    ----------
    name : str
        Name or alias; a variant after a colon.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Law
        With ``loss``, ``optimum``, ``compute``, ``loss_interval``, ``params_interval``, ``coefficients`` and
        ``entry``; on numpy arrays too.

    Raises
    ------
    UnknownNameError
        With the nearest names.

    Examples
    --------
    Repeated data, the two runs that Muennighoff et al. compare:

    >>> found = law("muennighoff-2023")
    >>> round(found.loss(6.34e9, 242e9, unique=25e9), 4), round(found.loss(8.67e9, 178e9, unique=25e9), 4)
    (2.2256, 2.227)
    """
    return find_law(name, _book(catalog))


def laws(search: str | None = None, *, answers: str | None = None, catalog: Any = None) -> list[Law]:
    """The scaling laws of the catalog.

    Parameters
    ----------
    search : str, optional
        Only those with this in name, alias or title.
    answers : str, optional
        Only those that give this: ``optimum``, ``loss``, ``learning-rate``, ``batch``, ``critical-batch`` ...
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    list of Law
        In the order of the catalog.

    Examples
    --------
    >>> [one.name for one in laws("chinchilla refit")]
    ['besiroglu-2024', 'besiroglu-2024-huber']
    """
    found = all_laws(_book(catalog), answers)
    if search is None:
        return found
    wanted = fold(search)
    return [
        one
        for one in found
        if any(wanted in fold(text) for text in (one.name, one.entry["title"], *one.entry.get("aliases", [])))
    ]
