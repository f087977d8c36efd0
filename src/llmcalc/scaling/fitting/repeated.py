"""The form for repeated data: tokens that are seen again, and parameters beyond them, count less and less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmcalc.scaling.fitting.forms import Chinchilla, Form, Values, _column
from llmcalc.scaling.fitting.powers import FLOOR, STEEPEST, Array
from llmcalc.scaling.fitting.rows import Rows
from llmcalc.scaling.fitting.solve import Objective

LEAST = 1e-3
"""Least exponent at which the best parameters for unique tokens are told. [-]"""

MOST = np.log(1e-3), np.log(1e5)
"""Logarithms of R* that a search goes to: hardly a repetition counts, or all do. [-]"""

STEP = 1e-5
"""Of differences of the gradient. [-]"""


def saturating(unique: Any, total: Any, half: Any) -> Any:
    """What a total of which some is unique is worth: each repetition a little less than the one before."""
    again = np.maximum(total / unique - 1, 0.0)
    return unique * (1 + half * -np.expm1(-again / half))


class Saturated:
    """The form on rows. Coordinates: a, alpha, b, beta, e (centred), and the logarithms of both R*.

    Parameters
    ----------
    rows : Rows
        With unique tokens.
    fixed : mapping of str to float
        Parameters that are not fitted.
    tied : bool
        Whether beta is alpha.
    """

    ALL = ("A", "alpha", "B", "beta", "E", "R_D_star", "R_N_star")

    def __init__(self, rows: Rows, fixed: Mapping[str, float], tied: bool) -> None:
        assert rows.params is not None
        assert rows.tokens is not None
        assert rows.unique is not None
        self.wide, self.long = np.log(rows.params), np.log(rows.tokens)
        self.unique = np.log(np.minimum(rows.unique, rows.tokens))
        # A fixed coefficient can't take up a shift of its feature.
        self.middle = (
            0.0 if "A" in fixed else float(self.wide.mean()),
            0.0 if "B" in fixed else float(self.long.mean()),
        )
        self.fixed, self.tied = fixed, tied
        self.names = [name for name in self.ALL if name not in fixed and not (tied and name == "beta")]
        self.mix = np.zeros((len(self.names), len(self.ALL)))
        for place, name in enumerate(self.names):
            self.mix[place, self.ALL.index(name)] = 1.0
        if tied and "alpha" in self.names:
            self.mix[self.names.index("alpha"), self.ALL.index("beta")] = 1.0
        reach = {"alpha": (LEAST, STEEPEST), "beta": (LEAST, STEEPEST), "R_D_star": MOST, "R_N_star": MOST}
        ends = [reach.get(name, (FLOOR * 2, -FLOOR * 2)) for name in self.names]
        self.limits = np.array([one for one, _ in ends]), np.array([two for _, two in ends])
        held = dict(fixed)
        if tied and "alpha" in fixed:
            held["beta"] = fixed["alpha"]
        self.held = np.array([self._inner(name, held[name]) if name in held else 0.0 for name in self.ALL])

    @staticmethod
    def _inner(name: str, value: float) -> float:
        if name in ("alpha", "beta"):
            return value
        return float(np.log(value)) if value > 0 else FLOOR

    def whole(self, theta: Array) -> Array:
        """All seven coordinates. (R, 7)"""
        result: Array = theta @ self.mix + self.held
        return result

    def evaluate(self, theta: Array) -> tuple[Array, Array, Any]:
        """Logarithm of the loss, its gradient, nothing else."""
        full = self.whole(theta)
        a, alpha, b, beta, e, repeats, extra = (full[:, place, None] for place in range(7))
        safe_a, safe_b = np.maximum(alpha, LEAST), np.maximum(beta, LEAST)
        total = safe_a + safe_b
        ratio = (np.log(safe_a / safe_b) + a + alpha * self.middle[0] - b - beta * self.middle[1]) / total
        lean = safe_b / safe_a
        best = lean * (self.unique + ratio) + ratio  # ln of the best parameters for the unique tokens
        base = np.minimum(self.wide, best)
        half_d, half_n = np.exp(repeats), np.exp(extra)
        again_d = np.exp(self.long - self.unique) - 1
        again_n = np.expm1(np.clip(self.wide - base, 0, 50))
        left_d, left_n = np.exp(-again_d / half_d), np.exp(-again_n / half_n)
        worth_d = 1 + half_d * -np.expm1(-again_d / half_d)
        worth_n = 1 + half_n * -np.expm1(-again_n / half_n)
        tokens = self.unique + np.log(worth_d) - self.middle[1]
        params = base + np.log(worth_n) - self.middle[0]
        terms = np.stack([a - alpha * params, b - beta * tokens, np.broadcast_to(e, params.shape)])
        top = terms.max(axis=0)
        shares = np.exp(terms - top)
        sums = shares.sum(axis=0)
        value = np.log(sums) + top
        first, second, third = shares / sums
        # How ln N' follows the parameters that the best parameters follow.
        moved = (worth_n - left_n * (1 + again_n)) / worth_n * (best < self.wide)
        drop = -first * alpha * moved
        by_ratio = lean + 1
        grown = (1 / safe_a + self.middle[0] - ratio) / total, (-1 / safe_b - self.middle[1] - ratio) / total
        lag_n = half_n * (1 - left_n - left_n * again_n / half_n) / worth_n
        lag_d = half_d * (1 - left_d - left_d * again_d / half_d) / worth_d
        gradient = np.stack([
            first + drop * by_ratio / total,
            -first * params + drop * (by_ratio * grown[0] - lean / safe_a * (self.unique + ratio)),
            second - drop * by_ratio / total,
            -second * tokens + drop * (by_ratio * grown[1] + (self.unique + ratio) / safe_a),
            third,
            -second * beta * lag_d,
            -first * alpha * lag_n,
        ], axis=2)  # fmt: skip
        return value, gradient @ self.mix.T, None

    def value(self, theta: Array) -> Array:
        """Logarithm of the loss."""
        return self.evaluate(theta)[0]

    def bend(self, theta: Array, weights: Array, cache: Any) -> Array:
        """Second derivatives, by differences of the gradient."""
        sides = []
        here = self.evaluate(theta)[1]
        for place in range(theta.shape[1]):
            shift = np.zeros(theta.shape[1])
            shift[place] = STEP
            ahead = self.evaluate(theta + shift)[1]
            sides.append(np.einsum("rnp,rn->rp", ahead - here, weights) / STEP)
        found = np.stack(sides, axis=1)
        both: Array = 0.5 * (found + found.transpose(0, 2, 1))
        return both

    def public(self, theta: Array) -> dict[str, Array]:
        """Parameters as they are told."""
        full = self.whole(theta)
        alpha, beta = full[:, 1], full[:, 3]
        logs = {
            "A": full[:, 0] + alpha * self.middle[0], "B": full[:, 2] + beta * self.middle[1],
            "E": full[:, 4], "R_D_star": full[:, 5], "R_N_star": full[:, 6],
        }  # fmt: skip
        return {name: np.exp(np.clip(one, -700, 700)) for name, one in logs.items()} | {
            "alpha": alpha,
            "beta": beta,
        }

    def own(self, values: Values) -> Array:
        """Points of a search."""
        v = {name: np.atleast_1d(np.asarray(values[name], dtype=float)) for name in self.ALL}
        with np.errstate(divide="ignore"):
            full = {name: one if name in ("alpha", "beta") else np.log(one) for name, one in v.items()}
        full["A"] = full["A"] - full["alpha"] * self.middle[0]
        full["B"] = full["B"] - full["beta"] * self.middle[1]
        columns = np.broadcast_arrays(*[np.maximum(full[name], FLOOR * 10) for name in self.names])
        return np.stack(columns, axis=1).copy()


class DataConstrained(Form):
    """L = E + A / N'^alpha + B / D'^beta, N' and D' worth less than N and D where data are repeated."""

    name, title = "data-constrained", "Data-constrained"
    text = (
        "L = E + A / N'^alpha + B / D'^beta; X' = U (1 + R* (1 - exp(-(X / U - 1) / R*))), "
        "U the unique tokens, or the best parameters for them"
    )
    names = ("E", "A", "B", "alpha", "beta", "R_D_star", "R_N_star")
    rugged = True
    needs = ("params", "tokens", "unique")
    positive = ("alpha", "beta")
    source = "Muennighoff et al. 2023 (arXiv 2305.16264), appendices A and B"

    def build(self, rows: Rows) -> Saturated:
        """The form on rows."""
        return Saturated(rows, self.fixed, self.tied)

    def starts(self, rows: Rows, objective: Objective) -> dict[str, Array]:
        """Cells of a grid of the plain law on rows that repeat little, with a few values of both R*."""
        assert rows.tokens is not None
        assert rows.unique is not None
        fresh = rows.tokens <= 1.5 * rows.unique
        base = rows.take(fresh) if fresh.sum() >= 8 else rows
        own = {name: value for name, value in self.fixed.items() if name in Chinchilla.names}
        plain = Chinchilla(own, self.tied).starts(base, objective)
        plain.update({name: np.full_like(plain["A"], value) for name, value in own.items()})
        if self.tied:
            plain["beta"] = plain["alpha"]
        halves = [(d, n) for d in (1.0, 5.0, 20.0, 80.0) for n in (1.0, 5.0, 20.0, 80.0)]
        wide = {name: np.repeat(one, len(halves)) for name, one in plain.items()}
        wide["R_D_star"] = np.tile([d for d, _ in halves], len(plain["A"]))
        wide["R_N_star"] = np.tile([n for _, n in halves], len(plain["A"]))
        wide.update({name: np.full_like(wide["A"], value) for name, value in self.fixed.items()})
        built = self.build(rows)
        theta = built.own(wide)
        errors = objective.residuals(built.value(theta), np.log(rows.losses))
        order = np.argsort(objective.total(errors, np.ones(len(rows))), kind="stable")[:12]
        return {name: one[order] for name, one in wide.items()}

    def values(self, built: Any, theta: Array) -> dict[str, Array]:
        """Parameters as they are told."""
        found = built.public(theta)
        return {name: found[name] for name in self.names}

    def loss(self, values: Values, rows: Rows) -> Array:
        """Predicted losses."""
        v = {name: _column(values, name) for name in self.names}
        assert rows.tokens is not None
        assert rows.unique is not None
        return _worth(v, rows.params, rows.tokens, np.minimum(rows.unique, rows.tokens))

    def optimum(self, values: Values, compute: float, factor: float, **asked: Any) -> dict[str, Array]:
        """In closed form where all tokens are new; else by a search over parameters."""
        plain = Chinchilla().optimum(values, compute, factor)
        unique = asked.get("unique")
        if unique is None or float(unique) >= float(np.nanmax(plain["tokens"])):
            return plain
        low, high = np.log(plain["params"]) - 8, np.log(plain["params"]) + 8
        v = {name: np.atleast_1d(np.asarray(values[name], dtype=float)) for name in self.names}

        def loss(logs: Array) -> Array:
            params = np.exp(logs)
            tokens = compute / factor / params
            return _worth(v, params, tokens, np.minimum(float(unique), tokens))

        share = (np.sqrt(5) - 1) / 2
        for _ in range(50):
            left, right = high - share * (high - low), low + share * (high - low)
            lower = loss(left) < loss(right)
            low, high = np.where(lower, low, left), np.where(lower, right, high)
        params = np.exp(0.5 * (low + high))
        return {"params": params, "tokens": compute / factor / params, "loss": loss(np.log(params))}


def _worth(v: Mapping[str, Array], params: Any, tokens: Any, unique: Any) -> Array:
    """The loss of parameters and tokens of which some are unique."""
    with np.errstate(all="ignore"):
        ratio = (v["alpha"] * v["A"] / (v["beta"] * v["B"])) ** (1 / (v["alpha"] + v["beta"]))
        best = (unique * ratio) ** (v["beta"] / v["alpha"]) * ratio
        wide = saturating(np.minimum(best, params), params, v["R_N_star"])
        long = saturating(unique, tokens, v["R_D_star"])
        result: Array = v["E"] + v["A"] * wide ** -v["alpha"] + v["B"] * long ** -v["beta"]
    return result
