"""Distributions of lengths, cut into parts of equal probability, each with its own mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import NormalDist

from llmcalc.demand.lengths import STRATA, Lengths
from llmcalc.errors import InputError

STANDARD = NormalDist()
Z95 = STANDARD.inv_cdf(0.95)

STEEPEST = math.exp(Z95 * Z95 / 2)
"""The largest ratio of 95th percentile and mean that a log-normal can have: 3.87. [-]"""

ROUNDED = 1.05
"""A ratio beyond that by so much is taken for rounded figures. [-]"""

CUT = 0.999_99
"""Where a distribution without an end is cut if the model names no limit. [-]"""

Partial = Callable[[float], float]
"""The mean of what lies below a share of the probability, times that share. [tokens]"""


def shape(name: str, numbers: dict[str, int], what: str, label: str, most: int | None) -> Lengths:
    """A distribution as lengths.

    Parameters
    ----------
    name : str
        ``uniform``, ``lognormal``, ``exponential`` or ``normal``.
    numbers : dict
        What describes it. [tokens]
    what, label : str
        The option, and the text it was given.
    most : int or None
        The longest that the model takes. [tokens]

    Returns
    -------
    Lengths
        What lies beyond `most` is cut to it.

    Examples
    --------
    >>> found = shape("uniform", {"lo": 100, "hi": 300}, "--prompt", "", None)
    >>> round(sum(v * w for v, w in zip(found.values, found.weights))), found.longest
    (200, 300)
    """
    notes: list[str] = []
    if name == "uniform":
        low, high = numbers["lo"], numbers["hi"]
        if low > high:
            raise InputError(
                f"{what}: uniform({low}, {high}) is upside down.", f"Write uniform({high}, {low})."
            )
        if low == high:
            return Lengths([low], [1.0], label)
        partial, end = (lambda p: p * low + p * p * (high - low) / 2), float(high)
        _check_end(high, what, most)
    elif name == "exponential":
        mean = numbers["mean"]
        partial = lambda p: mean * (p + _xlogx(1 - p))  # noqa: E731
        end = -mean * math.log(1 - CUT)
    elif name == "normal":
        mean, sd = numbers["mean"], numbers["sd"]
        partial = lambda p: mean * p - sd * _density(p)  # noqa: E731
        end = mean + sd * STANDARD.inv_cdf(CUT)
    else:
        mu, sigma = _lognormal(numbers, what, notes)
        whole = math.exp(mu + sigma * sigma / 2)
        partial = lambda p: whole * _shifted(p, sigma)  # noqa: E731
        end = math.exp(mu + sigma * STANDARD.inv_cdf(CUT))
    longest = int(end) if most is None or name == "uniform" else most
    values = _means(partial, longest)
    made = Lengths(*_together(values), label, longest)
    made.notes = notes
    return made


def _check_end(high: int, what: str, most: int | None) -> None:
    if most is not None and high > most:
        raise InputError(
            f"{what}: {high:,} tokens are above the {most:,} that the model takes with the rest.",
            f"End it at {most}, or --allow-overlong.",
        )


def _lognormal(numbers: dict[str, int], what: str, notes: list[str]) -> tuple[float, float]:
    """Its two parameters, from the 95th percentile and mean or median."""
    p95 = numbers["p95"]
    if "median" in numbers:
        if p95 <= numbers["median"]:
            raise InputError(f"{what}: p95 is not above the median.", "Swap them.")
        mu = math.log(numbers["median"])
        return mu, (math.log(p95) - mu) / Z95
    mean = numbers["mean"]
    if p95 <= mean:
        raise InputError(f"{what}: p95 is not above the mean.", "Swap them, or use uniform(lo, hi).")
    if p95 > mean * STEEPEST * ROUNDED:
        raise InputError(
            f"{what}: the 95th percentile of a log-normal is at most {STEEPEST:.2f} times its mean, not "
            f"{p95 / mean:.3g} times.",
            "Give median=... in place of mean=..., or a file of lengths.",
        )
    if p95 > mean * STEEPEST:
        notes.append(
            f"{what}: the 95th percentile of a log-normal is at most {STEEPEST:.3f} times its mean; "
            f"{int(mean * STEEPEST):,} is taken for p95."
        )
    # ln(p95 / mean) = z s - s^2 / 2, of whose two roots the smaller spreads less.
    sigma = Z95 - math.sqrt(max(Z95 * Z95 - 2 * math.log(p95 / mean), 0.0))
    return math.log(mean) - sigma * sigma / 2, sigma


def _shifted(p: float, sigma: float) -> float:
    return 0.0 if p <= 0 else 1.0 if p >= 1 else STANDARD.cdf(STANDARD.inv_cdf(p) - sigma)


def _density(p: float) -> float:
    return 0.0 if p <= 0 or p >= 1 else STANDARD.pdf(STANDARD.inv_cdf(p))


def _xlogx(q: float) -> float:
    return q * math.log(q) if q > 0 else 0.0


def _means(partial: Partial, longest: int) -> list[int]:
    """Mean of each part of equal probability, to the nearest token, within 1 and the longest."""
    edges = [partial(place / STRATA) for place in range(STRATA + 1)]
    means = ((after - before) * STRATA for before, after in pairwise(edges))
    return [min(max(round(mean), 1), longest) for mean in means]


def _together(values: list[int]) -> tuple[list[int], list[float]]:
    counts: dict[int, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return list(counts), [many / len(values) for many in counts.values()]
