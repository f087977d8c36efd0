"""The bootstrap: the fit again and again on rows, or whole runs, drawn with replacement.

Resamples are fitted in batches whose size depends on the data alone, each with random numbers of
its own: whatever runs them, in whatever order, the samples are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from llmcalc.errors import InputError
from llmcalc.scaling.fitting.point import Point, spread_of
from llmcalc.scaling.fitting.powers import Array
from llmcalc.scaling.fitting.rows import Rows
from llmcalc.scaling.fitting.solve import Objective, descend

BATCH, CELLS = 50, 12_000
"""Resamples of a batch, and rows x resamples, at most. [-]"""

SMOOTH = 30.0
"""Absolute values are rounded off this far below the residuals' size, in resamples. [-]"""

ENOUGH = 1e-9
"""Relative progress at which a resample is at rest. [-]"""

Progress = Callable[[int, int], None]


def counts(random: Any, groups: Any, number: int) -> Array:
    """How often each row is drawn, in some resamples. (R, n)

    Parameters
    ----------
    random : numpy.random.Generator
        Where the numbers come from.
    groups : ndarray of int
        Group of each row; a group is drawn whole.
    number : int
        Resamples.
    """
    size = int(groups.max()) + 1
    drawn = random.integers(0, size, size=(number, size))
    flat = drawn + size * np.arange(number)[:, None]
    table = np.bincount(flat.ravel(), minlength=number * size).reshape(number, size)
    result: Array = table[:, groups].astype(float)
    return result


def batch(
    form: Any, rows: Rows, theta: Array, objective: Objective, stages: Sequence[float],
    groups: Any, seed: Any, number: int,
) -> Array:  # fmt: skip
    """Fit one batch of resamples, started from the fit of all rows. (R, p)"""
    built = form.build(rows)
    weights = counts(np.random.default_rng(seed), groups, number)
    found, _ = descend(
        built,
        np.repeat(theta[None], number, axis=0),
        np.log(rows.losses),
        weights,
        objective,
        stages,
        close=ENOUGH,
    )
    return found


def batches(resamples: int, rows: int) -> list[int]:
    """Sizes of the batches, from the data alone.

    Examples
    --------
    >>> batches(120, 240), batches(3, 10**6)
    ([50, 50, 20], [1, 1, 1])
    """
    size = max(1, min(BATCH, CELLS // max(rows, 1)))
    whole, rest = divmod(resamples, size)
    return [size] * whole + ([rest] if rest else [])


def run_all(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], sizes: Sequence[int], executor: Any,
    progress: Progress | None,
) -> list[Any]:  # fmt: skip
    """Do all jobs, here or by an executor, in order; tell how far it is.

    Raises
    ------
    InputError
        If the executor can't be submitted to.
    """
    total, done, found = sum(sizes), 0, []
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InputError(
            f"executor is a {type(executor).__name__}, which has no submit().",
            "Give a concurrent.futures executor, such as ProcessPoolExecutor(), or a Dask client.",
        )
    futures = [executor.submit(work, *job) for job in jobs] if executor is not None else [None] * len(jobs)
    for job, future, size in zip(jobs, futures, sizes, strict=True):
        found.append(future.result() if future is not None else work(*job))
        done += size
        if progress is not None:
            progress(done, total)
    return found


def resample(
    form: Any, rows: Rows, point: Point, objective: Objective, resamples: int, seed: int,
    by_run: bool, executor: Any, progress: Progress | None,
) -> Array:  # fmt: skip
    """Points of all resamples. (B, p)"""
    groups = rows.runs if by_run else np.arange(len(rows))
    sizes = batches(resamples, len(rows))
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))
    spread = max(spread_of(point.residuals), 1e-9)
    if objective.loss == "l2":
        stages = [np.inf]
    else:
        last = objective.delta if objective.loss == "huber" else spread / SMOOTH
        stages = [last * 3**power for power in (3, 2, 1, 0) if last * 3**power <= spread * 3 or power == 0]
    bare = Rows(
        rows.losses, rows.params, rows.tokens, rows.compute, rows.unique, rows.experts, factor=rows.factor,
        places=[""] * len(rows),
    )  # fmt: skip
    jobs = [
        (form, bare, point.theta, objective, stages, groups, one, size)
        for one, size in zip(seeds, sizes, strict=True)
    ]
    return np.concatenate(run_all(batch, jobs, sizes, executor, progress))


def tails(level: float, rows: int, fitted: int) -> tuple[float, float]:
    """Percentiles of an interval, a little wider for few rows.

    A bootstrap of n rows has a variance that is (n - p) / n too small, and the normal distribution
    too short a tail: both are made up for, as Hesterberg (2015) proposes.

    Examples
    --------
    >>> [round(one, 2) for one in tails(0.95, 10**9, 5)], [round(one, 2) for one in tails(0.95, 30, 5)]
    ([2.5, 97.5], [1.2, 98.8])
    """
    normal = NormalDist()
    free = max(rows - fitted, 1)
    z = normal.inv_cdf(0.5 + level / 2)
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    tail = 100 * normal.cdf(-math.sqrt(rows / free) * t)
    return tail, 100 - tail


def interval(samples: Array, level: float, rows: int, fitted: int) -> tuple[float, float]:
    """The interval of some samples; nan where hardly any is finite."""
    good = samples[np.isfinite(samples)]
    if len(good) < max(2, len(samples) // 2):
        return math.nan, math.nan
    low, high = np.percentile(good, tails(level, rows, fitted))
    return float(low), float(high)
