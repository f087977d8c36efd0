"""Approaches 1 and 2, and optima that are given: straight lines through ln N and ln D over ln C."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmcalc.errors import InputError
from llmcalc.scaling.fitting.bootstrap import Progress, batches, counts, run_all
from llmcalc.scaling.fitting.powers import Array
from llmcalc.scaling.fitting.rows import Rows

GAP = 0.18
"""Logarithm between two budgets of compute, at least. [-]"""

WIDE = 0.7
"""Logarithm of compute that rows of one budget may span. [-]"""

GRID = 400
"""Budgets at which the envelope of training curves is read. [-]"""


class Optima:
    """Best parameters and tokens of some budgets, and the line through them.

    Attributes
    ----------
    compute, params, tokens : ndarray
        Of each budget. [FLOP], [-], [tokens]
    losses : ndarray or None
        Loss at the optimum.
    profiles : list of tuple
        Of approach 2: rows of each budget and its parabola in ln N.
    left_out : list of str
        Budgets without an optimum, and why.
    """

    def __init__(self, compute: Array, params: Array, tokens: Array, losses: Array | None = None) -> None:
        self.compute, self.params, self.tokens, self.losses = compute, params, tokens, losses
        self.profiles: list[tuple[Any, Array]] = []
        self.left_out: list[str] = []


def lines(compute: Array, params: Array, tokens: Array, weights: Array) -> dict[str, Array]:
    """Lines of ln N and ln D over ln C by weighted least squares.

    Parameters
    ----------
    compute, params, tokens : ndarray of (R, m) or (m,)
        Optima.
    weights : ndarray of (R, m)
        Their weights; 0 leaves one out.
    """
    x = np.broadcast_to(np.log(compute), weights.shape)
    found = {}
    with np.errstate(all="ignore"):
        total = weights.sum(axis=1, keepdims=True)
        middle = (weights * x).sum(axis=1, keepdims=True) / total
        across = (weights * (x - middle) ** 2).sum(axis=1)
        for exponent, factor, values in (("a", "k_N", params), ("b", "k_D", tokens)):
            y = np.where(weights > 0, np.log(np.broadcast_to(values, weights.shape)), 0.0)
            level = (weights * y).sum(axis=1, keepdims=True) / total
            slope = (weights * (x - middle) * (y - level)).sum(axis=1) / across
            found[exponent] = slope
            found[factor] = np.exp(level[:, 0] - slope * middle[:, 0])
    return {name: found[name] for name in ("k_N", "a", "k_D", "b")}


# -- approach 2 ---------------------------------------------------------------------------------


def budgets(rows: Rows) -> list[Any]:
    """Places of the rows of each budget, the smallest budget first.

    Raises
    ------
    InputError
        If compute does not fall into budgets.
    """
    logs = np.log(rows.flops)
    order = np.argsort(logs, kind="stable")
    cuts = np.flatnonzero(np.diff(logs[order]) > GAP) + 1
    groups = np.split(order, cuts)
    wide = [group for group in groups if np.ptp(logs[group]) > WIDE]
    if wide:
        raise InputError(
            "The runs do not fall into budgets of compute: there are no IsoFLOP profiles.",
            "Use --approach 3, which takes any runs.",
        )
    return groups


def parabolas(x: Array, y: Array, weights: Array) -> Array:
    """Parabolas through points by weighted least squares: c0 + c1 x + c2 x^2. (R, 3)"""
    powers = np.stack([np.ones_like(x), x, x**2])
    gram = np.einsum("pm,qm,rm->rpq", powers, powers, weights)
    right = np.einsum("pm,m,rm->rp", powers, y, weights)
    gram = gram + 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    result: Array = np.linalg.solve(gram, right[..., None])[..., 0]
    return result


def vertices(rows: Rows, group: Any, weights: Array) -> tuple[Array, Array, Array]:
    """Vertex of one budget's parabola in ln N, its loss, and the parabola; nan where there is none."""
    assert rows.params is not None
    logs = np.log(rows.params[group])
    middle = float(logs.mean())
    x = logs - middle
    found = parabolas(x, rows.losses[group], weights)
    distinct = ((weights > 0) @ _first_of(logs)) >= 3
    with np.errstate(all="ignore"):
        at = -found[:, 1] / (2 * found[:, 2])
        loss = found[:, 0] - found[:, 1] ** 2 / (4 * found[:, 2])
    good = distinct & (found[:, 2] > 0) & (at >= x.min() - 1e-9) & (at <= x.max() + 1e-9)
    return np.where(good, at + middle, np.nan), np.where(good, loss, np.nan), found


def _first_of(values: Array) -> Array:
    """1 for the first row of each value. A row drawn stands for its value."""
    first = np.unique(np.round(values, 9), return_index=True)[1]
    mark = np.zeros(len(values))
    mark[first] = 1.0
    return mark


def isoflop(rows: Rows) -> Optima:
    """The optimum of each budget.

    Raises
    ------
    InputError
        If fewer than two budgets have one.
    """
    groups = budgets(rows)
    compute, params, losses, profiles, left_out = [], [], [], [], []
    for group in groups:
        budget = float(np.exp(np.log(rows.flops[group]).mean()))
        if len(np.unique(np.round(np.log(rows.params[group]), 9))) < 3:  # type: ignore[index]
            left_out.append(f"{budget:.3g} FLOP: fewer than three sizes")
            continue
        at, loss, parabola = (one[0] for one in vertices(rows, group, np.ones((1, len(group)))))
        profiles.append((group, parabola))
        if np.isnan(at):
            side = (
                "its best size is not among those trained"
                if parabola[2] > 0
                else "its profile has no minimum"
            )
            left_out.append(f"{budget:.3g} FLOP: {side}")
            continue
        compute.append(budget)
        params.append(float(np.exp(at)))
        losses.append(float(loss))
    if len(compute) < 2:
        told = "; ".join(left_out[:3]) + ("; ..." if len(left_out) > 3 else "")
        raise InputError(
            f"{len(compute)} of {len(groups)} budgets of compute have an "
            f"optimum{f' ({told})' if told else ''}: "
            "an exponent needs two at least.",
            "Train several sizes at each of several budgets.",
        )
    made = Optima(
        np.array(compute), np.array(params), np.array(compute) / rows.factor / params, np.array(losses)
    )
    made.profiles, made.left_out = profiles, left_out
    return made


def isoflop_batch(rows: Rows, groups: list[Any], seed: Any, number: int) -> dict[str, Array]:
    """Approach 2 on some resamples, rows drawn within each budget."""
    random = np.random.default_rng(seed)
    compute, params = [], []
    for group in groups:
        weights = counts(random, np.arange(len(group)), number)
        at = vertices(rows, group, weights)[0]
        compute.append(np.exp(np.log(rows.flops[group]).mean()))
        params.append(np.exp(at))
    sizes, budget = np.stack(params, axis=1), np.array(compute)
    good = np.isfinite(sizes)
    good &= (good.sum(axis=1) >= 2)[:, None]
    return lines(
        budget, np.where(good, sizes, 1.0), np.where(good, budget / rows.factor / sizes, 1.0), good * 1.0
    )


# -- approach 1 ---------------------------------------------------------------------------------


def curves(rows: Rows) -> tuple[Array, Array, Array]:
    """Training curves read at budgets: the budgets, losses (runs x budgets; infinite outside), sizes of runs.

    Raises
    ------
    InputError
        If rows are not checkpoints of runs.
    """
    assert rows.params is not None
    runs = rows.runs
    if runs is None or runs.max() + 1 > len(rows) / 2:
        # Without names, checkpoints of one size are one run.
        runs = np.unique(np.round(np.log(rows.params), 6), return_inverse=True)[1]
    flops = np.log(rows.flops)
    found, sizes, spans = [], [], []
    for run in range(int(runs.max()) + 1):
        own = np.flatnonzero(runs == run)
        own = own[np.argsort(flops[own], kind="stable")]
        if len(own) >= 2 and np.ptp(flops[own]) > 0:
            found.append((flops[own], np.log(rows.losses[own])))
            sizes.append(rows.params[own[-1]])
            spans.append((flops[own[0]], flops[own[-1]]))
    if len(found) < 3:
        raise InputError(
            f"There are training curves of {len(found)} runs; an envelope needs three at least.",
            "Give several checkpoints of each run (name the run with --run-col), or use --approach 3.",
        )
    low, high = min(one for one, _ in spans), max(two for _, two in spans)
    grid = np.linspace(low, high, GRID)
    table = np.full((len(found), GRID), np.inf)
    for place, ((x, y), (start, end)) in enumerate(zip(found, spans, strict=True)):
        inside = (grid >= start) & (grid <= end)
        table[place, inside] = np.interp(grid[inside], x, y)
    return np.exp(grid), table, np.array(sizes)


def envelope_lines(compute: Array, table: Array, sizes: Array, factor: float) -> tuple[dict[str, Array], Any]:
    """The line through the lowest runs, budgets won by the smallest or largest size left out."""
    there = np.isfinite(table).any(axis=0)
    place = np.argmin(table, axis=0)
    params = sizes[place]
    inner = there & (params > sizes.min()) & (params < sizes.max())
    weights = (inner & (np.isfinite(table).sum(axis=0) >= 2)) * 1.0
    found = lines(compute, params, compute / factor / params, weights[None])
    return found, weights > 0


def envelope(rows: Rows) -> tuple[Optima, dict[str, float]]:
    """Best sizes along the envelope of training curves, and the line through them.

    Raises
    ------
    InputError
        If the envelope is of too few sizes.
    """
    compute, table, sizes = curves(rows)
    found, used = envelope_lines(compute, table, sizes, rows.factor)
    params = sizes[np.argmin(table, axis=0)][used]
    if len(np.unique(params)) < 2:
        raise InputError(
            "The envelope of the training curves has fewer than two sizes between the smallest "
            "and the largest.",
            "Give longer curves of more sizes, or use --approach 3.",
        )
    made = Optima(
        compute[used], params, compute[used] / rows.factor / params, np.exp(table.min(axis=0)[used])
    )
    return made, {name: float(one[0]) for name, one in found.items()}


def envelope_batch(
    compute: Array, table: Array, sizes: Array, factor: float, seed: Any, number: int
) -> dict[str, Array]:
    """Approach 1 on some resamples of whole runs."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        chosen = np.unique(random.integers(0, len(sizes), len(sizes)))
        found.append(envelope_lines(compute, table[chosen], sizes[chosen], factor)[0])
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


# -- optima that are given ----------------------------------------------------------------------


def given_batch(rows: Rows, weights: Array, seed: Any, number: int) -> dict[str, Array]:
    """Lines through some resamples of given optima."""
    drawn = counts(np.random.default_rng(seed), np.arange(len(rows)), number) * weights
    assert rows.params is not None
    assert rows.tokens is not None
    return lines(rows.flops, rows.params, rows.tokens, drawn)


def resampled(
    work: Any, first: tuple[Any, ...], number: int, size: int, seed: int, executor: Any,
    progress: Progress | None,
) -> dict[str, Array]:  # fmt: skip
    """All resamples of one of these approaches."""
    sizes = batches(number, size)
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))
    jobs = [(*first, one, own) for one, own in zip(seeds, sizes, strict=True)]
    found = run_all(work, jobs, sizes, executor, progress)
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}
