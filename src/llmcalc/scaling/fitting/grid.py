"""Variable projection: on a grid of exponents the coefficients are solved for, and the best cells are starts.

For given exponents a law is linear in its coefficients. Three of them at most, none negative: each
subset of them is solved by normal equations, over the whole grid at once, and the best that has no
negative coefficient is kept. Rows are divided by their loss, so that errors are relative.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from llmcalc.scaling.fitting.powers import Array
from llmcalc.scaling.fitting.solve import Objective

EXPONENTS = np.concatenate([np.linspace(0.02, 0.8, 24), [0.95, 1.2, 1.6]])
"""Exponents that are tried. [-]"""

STARTS = 4
"""Cells of the grid that become starts, by each of two rankings. [-]"""


def coefficients(first: Array, second: Array | None, constant: Array | None, target: Array) -> Array:
    """Coefficients that are not negative, by least squares, for each cell of a grid.

    Parameters
    ----------
    first : ndarray of (m1, n)
        First term without its coefficient, for each of its exponents.
    second : ndarray of (m2, n), optional
        Second term likewise.
    constant : ndarray of (n,), optional
        Third term.
    target : ndarray of (n,)
        What they add up to.

    Returns
    -------
    ndarray of (m1, m2, 3)
        Coefficients, 0 where a term is absent.
    """
    wide = len(first), 1 if second is None else len(second)
    gram = np.zeros((*wide, 3, 3))
    right = np.zeros((*wide, 3))
    gram[..., 0, 0] = np.einsum("an,an->a", first, first)[:, None]
    right[..., 0] = (first @ target)[:, None]
    used = [0]
    if second is not None:
        gram[..., 1, 1] = np.einsum("bn,bn->b", second, second)
        gram[..., 0, 1] = gram[..., 1, 0] = first @ second.T
        right[..., 1] = second @ target
        used.append(1)
    if constant is not None:
        gram[..., 2, 2] = constant @ constant
        gram[..., 0, 2] = gram[..., 2, 0] = (first @ constant)[:, None]
        right[..., 2] = constant @ target
        if second is not None:
            gram[..., 1, 2] = gram[..., 2, 1] = second @ constant
        used.append(2)
    best = np.zeros((*wide, 3))
    gain = np.full(wide, -np.inf)
    for size in range(1, len(used) + 1):
        for chosen in itertools.combinations(used, size):
            part = np.ix_(chosen, chosen)
            inner = gram[:, :, part[0], part[1]]
            inner = inner + 1e-13 * np.trace(inner, axis1=-2, axis2=-1)[..., None, None] * np.eye(size)
            found = np.linalg.solve(inner, right[..., list(chosen), None])[..., 0]
            won = (found * right[..., list(chosen)]).sum(axis=-1)
            better = (found >= 0).all(axis=-1) & (won > gain)
            gain = np.where(better, won, gain)
            whole = np.zeros((*wide, 3))
            whole[..., list(chosen)] = found
            best = np.where(better[..., None], whole, best)
    return best


def peaks(score: Array, most: int) -> list[tuple[int, ...]]:
    """Cells lower than all their neighbours, the lowest first.

    Examples
    --------
    >>> peaks(np.array([[3.0, 1.0, 2.0, 0.5, 4.0]]), 2)
    [(0, 3), (0, 1)]
    """
    padded = np.pad(score, 1, constant_values=np.inf)
    low = np.ones(score.shape, dtype=bool)
    for shift in itertools.product((-1, 0, 1), repeat=score.ndim):
        if any(shift):
            window = tuple(
                slice(1 + step, 1 + step + size) for step, size in zip(shift, score.shape, strict=True)
            )
            low &= score <= padded[window]
    cells = np.argwhere(low & np.isfinite(score))
    order = np.argsort(score[tuple(cells.T)], kind="stable")
    return [tuple(int(one) for one in cells[place]) for place in order[:most]]


def best_cells(
    first: Array, second: Array | None, constant: bool, losses: Array, objective: Objective,
    power: float = 1.0,
) -> tuple[list[tuple[int, int]], Array]:  # fmt: skip
    """The most promising cells of a grid and the coefficients of all.

    Cells are ranked by least squares and by the objective itself: outliers mislead the first alone.
    """
    target = losses ** (1 / power)
    unit = np.ones_like(target)
    own = None if second is None else second / target
    found = coefficients(first / target, own, 1 / target if constant else None, unit)
    total = np.einsum("abc,an->abn", found[..., :1], first)
    if second is not None:
        total = total + np.einsum("abc,bn->abn", found[..., 1:2], second)
    total = total + found[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = power * np.log(total) - np.log(losses)
    errors = np.where(np.isfinite(errors), errors, 1e3)
    if objective.residual == "linear":
        errors = np.expm1(np.minimum(errors, 50)) * losses
    squares = np.minimum(errors**2, 1e6).sum(axis=-1)
    own_score = objective.total(errors, unit)
    cells: dict[Any, None] = {}
    for score in (own_score, squares):
        for cell in peaks(score, STARTS):
            cells[cell] = None
    return list(cells), found
