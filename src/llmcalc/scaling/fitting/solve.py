"""The search for a minimum: damped Newton steps on many points at once.

The objective is divided by its own scale, so that a step is judged by relative progress: with
Huber's delta of 0.001 the sums are of 1e-3, and a general minimiser stops before it has begun.
Huber's delta is lowered in stages, each started from the last: far from the minimum nearly all
residuals lie in the linear part, which has no curvature to step by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmcalc.scaling.fitting.powers import Array

LOSSES = ("huber", "l1", "l2")
RESIDUALS = ("log", "linear")

TINY = 1e-6
"""Of the residuals' size: Huber's delta that stands for absolute values. [-]"""

STEPS = 80
"""Newton steps of the last stage, at most. [-]"""

CLOSE = 1e-13
"""Relative progress below which a point is at rest. [-]"""

FALL, SLOW = 6.0, 2.5
"""Huber's delta falls by this factor from stage to stage; below the residuals' size more slowly. [-]"""


class Objective:
    """Weighted sum of a loss over residuals.

    Parameters
    ----------
    loss : str
        ``huber``, ``l1`` or ``l2``.
    delta : float
        Where Huber's loss turns linear, in the units of the residuals. [-]
    residual : str
        ``log``: ln(predicted / measured); ``linear``: predicted less measured.
    """

    def __init__(self, loss: str, delta: float, residual: str) -> None:
        self.loss, self.delta, self.residual = loss, delta, residual

    def total(self, residuals: Array, weights: Array) -> Array:
        """The objective as it is reported: a sum, not a mean. (R,)"""
        size = np.abs(residuals)
        if self.loss == "l1":
            each = size
        elif self.loss == "l2":
            each = 0.5 * size**2
        else:
            inner = np.minimum(size, self.delta)
            each = inner * (size - 0.5 * inner)
        result: Array = (each * weights).sum(axis=-1)
        return result

    def is_linear(self, residuals: Array) -> bool:
        """Whether most residuals count by their size alone.

        Resamples of a median scatter more than the median itself, the more the fewer rows there are:
        their percentiles need no widening.
        """
        if self.loss == "huber":
            return bool(np.mean(np.abs(residuals) > self.delta) > 0.5)
        return self.loss == "l1"

    def deltas(self, spread: float) -> list[float]:
        """Stages of Huber's delta, from the size of residuals down to its own."""
        if self.loss == "l2":
            return [np.inf]
        spread = max(spread, 1e-9)
        last = self.delta if self.loss == "huber" else spread * TINY
        stages = [last]
        while stages[-1] < spread and len(stages) < 60:
            stages.append(stages[-1] * (SLOW if stages[-1] * SLOW < spread / 20 else FALL))
        return stages[::-1]

    def residuals(self, value: Array, logs: Array) -> Array:
        """Residuals of predicted logarithms."""
        return value - logs if self.residual == "log" else np.exp(value) - np.exp(logs)


def descend(
    form: Any, theta: Array, logs: Array, weights: Array, objective: Objective,
    deltas: Sequence[float], between: float = 1e-6, close: float = CLOSE,
) -> tuple[Array, Array]:  # fmt: skip
    """Walk from each start to a minimum.

    Parameters
    ----------
    form : Powers
        What is fitted.
    theta : ndarray of (R, p)
        Starts.
    logs : ndarray of (n,)
        Logarithms of the losses measured.
    weights : ndarray of (R, n) or (n,)
        How often each row counts.
    objective : Objective
        What is minimised.
    deltas : sequence of float
        Stages of Huber's delta; infinity is least squares.
    between : float
        Relative progress at which a stage before the last gives way to the next. [-]
    close : float
        Relative progress at which a point of the last stage is at rest. [-]

    Returns
    -------
    tuple
        Points and their objectives. (R, p), (R,)
    """
    theta = np.clip(np.array(theta, dtype=float), *form.limits)
    weights = np.broadcast_to(weights, (len(theta), len(logs)))
    with np.errstate(over="ignore", invalid="ignore"):  # far-off trials, which are turned down
        for place, delta in enumerate(deltas):
            last = place == len(deltas) - 1
            most, enough = (STEPS, close) if last else (STEPS // 2, between)
            theta = _stage(form, theta, logs, weights, objective, delta, most, enough)
        total = objective.total(objective.residuals(form.value(theta), logs), weights)
    return theta, np.where(np.isfinite(total), total, np.inf)


def _stage(
    form: Any, theta: Array, logs: Array, weights: Array, objective: Objective,
    delta: float, steps: int, close: float,
) -> Array:  # fmt: skip
    """Newton steps at one delta; points that rest are left out of the next steps."""
    active = np.arange(len(theta))
    damping = np.full(len(theta), 1e-3)
    rest = np.zeros(len(theta), dtype=int)
    at, own = theta.copy(), weights
    state = _look(form, at, logs, own, objective.residual, delta)
    for _ in range(steps):
        direction, promised = _direction(_held(state, at, form.limits), damping[active])
        trial = np.clip(at + direction, *form.limits)
        value = _total(objective.residuals(form.value(trial), logs), own, delta)
        better = value < state[0]
        gained = np.where(better, state[0] - value, 0.0)
        good = gained > 0.5 * promised
        damping[active] *= np.where(better, np.where(good, 0.1, 0.6), 5.0)
        damping[active] = np.clip(damping[active], 1e-12, 1e13)
        at = np.where(better[:, None], trial, at)
        theta[active] = at
        small = np.maximum(gained, np.where(better, 0.0, promised)) <= close * np.abs(state[0])
        rest[active] = np.where(small, rest[active] + 1, 0)
        going = (rest[active] < 2) & (damping[active] < 1e12)
        if not going.any():
            break
        if going.all() and not better.any():
            continue
        if not going.all():
            active, at, own = active[going], at[going], own[going]
        state = _look(form, at, logs, own, objective.residual, delta)
    return theta


def _total(residuals: Array, weights: Array, delta: float) -> Array:
    """The scaled objective: over delta, or plain squares. (R,)"""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(residuals)
        if np.isinf(delta):
            each = 0.5 * size**2
        else:
            inner = np.minimum(size, delta)
            each = inner * (size / delta - 0.5 * (inner / delta))
        total: Array = np.einsum("rn,rn->r", each, weights)
    return np.where(np.isfinite(total), total, np.inf)


def _look(
    form: Any, theta: Array, logs: Array, weights: Array, residual: str, delta: float
) -> tuple[Array, Array, Array, Array]:
    """Objective, gradient, second derivatives, and the size of each parameter's effect."""
    value, slope, cache = form.evaluate(theta)
    if residual == "linear":
        level = np.exp(value)
        residuals = level - np.exp(logs)
    else:
        level, residuals = np.ones_like(value), value - logs
    if np.isinf(delta):
        push, pull = weights * residuals, weights
    else:
        push = weights * np.clip(residuals / delta, -1.0, 1.0)
        pull = weights * (np.abs(residuals) < delta) / delta
    push = push * level
    pull = pull * level**2
    if residual == "linear":
        pull = pull + push  # the exponential's own curvature
    turned = slope.transpose(0, 2, 1)
    gradient = np.matmul(turned, push[..., None])[..., 0]
    second = np.matmul(turned, slope * pull[..., None]) + form.bend(theta, push, cache)
    size = np.sqrt(np.einsum("rnp,rnp,rn->rp", slope, slope, weights * level**2, optimize=True)) + 1e-12
    return _total(residuals, weights, delta), gradient, second, size


def _held(
    state: tuple[Array, Array, Array, Array], at: Array, limits: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """The same without coordinates that press against the end of their range: the others move alone."""
    value, gradient, second, size = state
    low, high = limits
    stuck = ((at <= low) & (gradient > 0)) | ((at >= high) & (gradient < 0))
    if not stuck.any():
        return state
    free = ~stuck
    kept = free[:, :, None] & free[:, None, :]
    own = np.where(kept, second, 0.0) + np.where(stuck, size**2, 0.0)[:, :, None] * np.eye(at.shape[1])
    return value, np.where(free, gradient, 0.0), own, size


def _direction(state: tuple[Array, Array, Array, Array], damping: Array) -> tuple[Array, Array]:
    """A damped Newton step that always leads downhill, and the progress that it promises."""
    _, gradient, second, size = state
    scaled = second / (size[:, :, None] * size[:, None, :])
    scaled = np.where(np.isfinite(scaled), scaled, 0.0)
    bends, axes = np.linalg.eigh(scaled)
    steep = np.einsum("rpq,rp->rq", axes, gradient / size)
    top = np.abs(bends).max(axis=1, keepdims=True) + 1e-300
    bends = np.abs(bends) + damping[:, None] * top
    step = -steep / bends
    promised = 0.5 * (steep**2 / bends).sum(axis=1)
    direction = np.einsum("rpq,rq->rp", axes, step) / size
    return np.clip(direction, -10.0, 10.0), promised
