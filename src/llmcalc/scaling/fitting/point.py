"""The point fit: starts from the grid, Newton steps from each, the best of all."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmcalc.scaling.fitting.powers import Array
from llmcalc.scaling.fitting.rows import Rows
from llmcalc.scaling.fitting.solve import Objective, descend

KEPT, COARSE = 3, 20.0
"""Points that go on once Huber's delta is this much below the residuals' size. [-]"""

HOPS, ROUNDS, FAR, FEW = 16, 4, 0.3, 100
"""Starts around the best, rounds of them at most, how far they lie, and rows that are few. [-]"""


class Point:
    """A minimum.

    Attributes
    ----------
    theta : ndarray of (p,)
        In the form's own coordinates.
    values : dict
        Parameters as they are told.
    objective : float
        The sum at the minimum. [-]
    residuals : ndarray
        Of each row: predicted less measured, in the objective's units. [-]
    """

    def __init__(
        self, form: Any, built: Any, rows: Rows, theta: Array, total: float, objective: Objective
    ) -> None:
        self.built, self.theta, self.objective = built, theta, total
        self.values = {name: float(one[0]) for name, one in form.values(built, theta[None]).items()}
        self.residuals = objective.residuals(built.value(theta[None])[0], np.log(rows.losses))


def spread_of(residuals: Array) -> float:
    """Size of residuals that outliers do not set. [-]"""
    return float(np.median(np.abs(residuals))) * 1.4826


def fit_point(form: Any, rows: Rows, objective: Objective, near: Array | None = None) -> Point:
    """The lowest minimum that is found from all starts, and from a point where one is given."""
    built = form.build(rows)
    logs = np.log(rows.losses)
    theta = form.own(built, form.starts(rows, objective))
    if near is not None:
        theta = np.concatenate([theta, near[None]])
    errors = objective.residuals(built.value(theta), logs)
    spread = float(np.median(np.abs(errors), axis=-1).min()) * 1.4826
    stages = objective.deltas(spread)
    best, least = _search(built, theta, logs, objective, stages, spread)
    random = np.random.default_rng(0)
    for _ in range(ROUNDS if form.rugged else int(len(rows) <= FEW)):
        size = np.exp(random.uniform(-2, 1.5, (HOPS, 1))) * FAR
        around = best + size * random.standard_normal((HOPS, len(best)))
        found, total = _search(built, around, logs, objective, stages, spread)
        if not total < least * (1 - 1e-6):
            break
        best, least = found, total
    return Point(form, built, rows, best, least, objective)


def _search(
    built: Any, theta: Array, logs: Array, objective: Objective, stages: list[float], spread: float
) -> tuple[Array, float]:
    """The best point that starts lead to; all go the first stages, the best few of them the rest."""
    weights = np.ones(len(logs))
    coarse = max(sum(delta >= spread / COARSE for delta in stages[:-1]), 1)
    if len(stages) > 1:
        theta, total = descend(built, theta, logs, weights, objective, stages[:coarse])
        theta = theta[np.argsort(total, kind="stable")[:KEPT]]
        stages = stages[coarse:]
    theta, total = descend(built, theta, logs, weights, objective, stages, 1e-10)
    place = int(np.argmin(total))
    return theta[place], float(total[place])
