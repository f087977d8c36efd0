"""How far a fit can be trusted: outliers, leverage, and a test on the largest runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmcalc.errors import InputError
from llmcalc.scaling.fitting import identify
from llmcalc.scaling.fitting.point import Point, fit_point, spread_of
from llmcalc.scaling.fitting.powers import Array
from llmcalc.scaling.fitting.rows import Rows
from llmcalc.scaling.fitting.solve import Objective

FAR = 5.0
"""Residuals beyond this many times their robust spread are outliers. [-]"""

SPARE = 3
"""Rows beyond the parameters that are left to fit, at least. [-]"""

HELD, FEWEST = 0.1, 3
"""Share of rows that are held out, about, and their number at least. [-]"""


def outliers(residuals: Array) -> Any:
    """Places of outliers, the farthest first."""
    spread = max(spread_of(residuals - np.median(residuals)), 1e-12)
    far = np.flatnonzero(np.abs(residuals) > FAR * spread)
    return far[np.argsort(-np.abs(residuals[far]), kind="stable")]


def leverage(built: Any, theta: Array) -> Array:
    """Diagonal of the hat matrix: how far each row pulls the fit to itself, 0 to 1. (n,)"""
    slope = built.evaluate(theta[None])[1][0]
    size = np.sqrt((slope**2).sum(axis=0)) + 1e-300
    left, sizes, _ = np.linalg.svd(slope / size, full_matrices=False)
    kept = left[:, sizes > 1e-10 * sizes[0]]
    result: Array = (kept**2).sum(axis=1)
    return result


class HoldOut:
    """A fit without the largest runs, and what it says of them.

    Attributes
    ----------
    above : float
        Compute from which rows were held out. [FLOP]
    fitted, held : int
        Rows of each kind. [-]
    errors : ndarray
        Predicted over measured, less 1, of the rows held out. [-]
    values : dict
        Parameters of the fit without them.
    reach : float
        Largest compute held out over the largest fitted. [-]
    """

    def __init__(
        self, above: float, fitted: int, errors: Array, values: dict[str, float], reach: float
    ) -> None:
        self.above, self.fitted, self.held = above, fitted, len(errors)
        self.errors, self.values, self.reach = errors, values, reach

    @property
    def mean(self) -> float:
        """Mean absolute relative error. [-]"""
        return float(np.abs(self.errors).mean())

    @property
    def worst(self) -> float:
        """Largest absolute relative error. [-]"""
        return float(np.abs(self.errors).max())

    @property
    def bias(self) -> float:
        """Mean relative error. [-]"""
        return float(self.errors.mean())


def boundary(flops: Array) -> float | None:
    """Compute that parts the largest tenth of the rows from the rest, between budgets, if any does."""
    order = np.sort(flops)
    number = max(round(HELD * len(order)), FEWEST)
    gaps = np.diff(np.log(order))
    places = np.flatnonzero(gaps > 0.02) + 1  # first row above each gap
    held = len(order) - places
    good = places[(held >= FEWEST) & (held <= max(3 * number, FEWEST))]
    if not len(good):
        return None
    return float(order[good[np.argmin(np.abs(len(order) - good - number))]])


def hold_out(form: Any, rows: Rows, objective: Objective, above: float | None, point: Point) -> HoldOut:
    """Fit without the rows of most compute, and predict them.

    Raises
    ------
    InputError
        If too few rows are left on either side.
    """
    flops = rows.flops
    cut = above if above is not None else boundary(flops)
    if cut is None:
        raise InputError("No budget parts the largest runs from the rest.", "Give one: --holdout 1e21.")
    held = flops >= cut * (1 - 1e-9)
    if not held.any() or held.all():
        span = f"{flops.min():.3g} to {flops.max():.3g}"
        raise InputError(f"--holdout {cut:g} leaves nothing on one side.", f"The rows have {span} FLOP.")
    rest = rows.take(~held)
    if len(rest) < form.free + SPARE:
        raise InputError(
            f"{len(rest)} rows would be left to fit {form.free} parameters to.",
            "Hold fewer out: a larger --holdout.",
        )
    identify.check(form, rest)
    fit = fit_point(form, rest, objective)
    own = rows.take(held)
    predicted = form.loss(fit.values, own)[0]
    reach = float(flops.max() / rest.flops.max())
    return HoldOut(float(cut), len(rest), predicted / own.losses - 1, fit.values, reach)
