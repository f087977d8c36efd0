"""The forms of a law: their terms, where a search starts, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmcalc.errors import InputError
from llmcalc.scaling.fitting.grid import EXPONENTS, best_cells
from llmcalc.scaling.fitting.powers import Array, Powers, Term
from llmcalc.scaling.fitting.rows import Rows
from llmcalc.scaling.fitting.solve import Objective

Values = Mapping[str, Any]


def two_powers(first: Array, second: Array, alpha: Any, beta: Any, compute: Any, factor: float) -> Any:
    """Parameters at which first N^-alpha + second D^-beta is least for N D = compute / factor."""
    with np.errstate(all="ignore"):
        ratio = (alpha * first / (beta * second)) ** (1 / (alpha + beta))
        return ratio * (compute / factor) ** (beta / (alpha + beta))


class Form:
    """What a form of a law has to say of itself."""

    name = ""
    title = ""
    text = ""
    names: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("params", "tokens")
    allocates = True
    """Whether it splits compute into parameters and tokens."""

    positive: tuple[str, ...] = ()
    """Parameters that a sound fit has above 0."""

    negative: tuple[str, ...] = ()
    """Parameters that a sound fit has below 0."""

    rugged = False
    """Whether there may be several minima, so that the search starts anew around the best."""

    source = ""

    def __init__(self, fixed: Mapping[str, float] | None = None, tied: bool = False, along: str = "") -> None:
        self.fixed, self.tied, self.along = dict(fixed or {}), tied, along
        unknown = [name for name in self.fixed if name not in self.names]
        if unknown:
            raise InputError(
                f"The form {self.name} has no parameter {unknown[0][:20]!r}.",
                f"Its parameters are {', '.join(self.names)}.",
            )

    @property
    def free(self) -> int:
        """Number of parameters that are fitted."""
        return len(self.names) - len(self.fixed) - int(self.tied)

    def build(self, rows: Rows) -> Any:
        """The form on rows."""
        raise NotImplementedError

    def starts(self, rows: Rows, objective: Objective) -> dict[str, Array]:
        """Where a search starts: coefficients and exponents. (S,) each"""
        raise NotImplementedError

    def values(self, built: Any, theta: Array) -> dict[str, Array]:
        """Parameters as they are told, of points of a search. (R,) each"""
        found = built.public(theta)
        if self.tied:
            found["beta"] = found["alpha"]
        return {name: found[name] for name in self.names}

    def own(self, built: Any, values: Values) -> Array:
        """Points of a search, of parameters as they are told."""
        result: Array = built.own(values)
        return result

    def loss(self, values: Values, rows: Rows) -> Array:
        """Predicted losses. (R, n)"""
        raise NotImplementedError

    def optimum(self, values: Values, compute: float, factor: float, **asked: Any) -> dict[str, Array]:
        """Parameters, tokens and loss that are best for a budget of compute. (R,) each"""
        raise InputError(
            f"The form {self.name} does not split compute into parameters and tokens.",
            "Fit --form chinchilla, or use --approach 2.",
        )

    def exponents(self, values: Values) -> dict[str, Array]:
        """Exponents of the best parameters and tokens over compute, where they are constant."""
        return {}


def _column(values: Values, name: str) -> Array:
    """A parameter as a column. (R, 1)"""
    result: Array = np.atleast_1d(np.asarray(values[name], dtype=float))[:, None]
    return result


def _axis(fixed: Mapping[str, float], name: str) -> Array:
    return np.array([fixed[name]]) if name in fixed else EXPONENTS


class Chinchilla(Form):
    """L = E + A / N^alpha + B / D^beta."""

    name, title = "chinchilla", "Chinchilla"
    text = "L = E + A / N^alpha + B / D^beta"
    names = ("E", "A", "B", "alpha", "beta")
    positive = ("alpha", "beta")
    source = "Hoffmann et al. 2022 (arXiv 2203.15556), equation 2"

    def build(self, rows: Rows) -> Powers:
        """The form on rows."""
        assert rows.params is not None
        assert rows.tokens is not None
        beta = "alpha" if self.tied else "beta"
        terms = [
            Term("A", {"alpha": -np.log(rows.params)}),
            Term("B", {beta: -np.log(rows.tokens)}),
            Term("E"),
        ]
        return Powers(terms, len(rows), self.fixed)

    def starts(self, rows: Rows, objective: Objective) -> dict[str, Array]:
        """Cells of a grid over both exponents."""
        assert rows.params is not None
        assert rows.tokens is not None
        alphas, betas = _axis(self.fixed, "alpha"), _axis(self.fixed, "beta")
        wide, long = np.log(rows.params), np.log(rows.tokens)
        middle = wide.mean(), long.mean()
        first = np.exp(-np.outer(alphas, wide - middle[0]))
        second = np.exp(-np.outer(betas, long - middle[1]))
        if self.tied and "alpha" not in self.fixed:
            found = [
                best_cells(first[n : n + 1], second[n : n + 1], True, rows.losses, objective)[1][0, 0]
                for n in range(len(alphas))
            ]
            cells, table = (
                [(n, n) for n in range(len(alphas))],
                np.array(found)[:, None].repeat(len(alphas), 1),
            )
        else:
            cells, table = best_cells(first, second, True, rows.losses, objective)
        own = np.array([table[cell] for cell in cells])
        own = np.maximum(own, 1e-6 * rows.losses.min())
        alpha = np.array([alphas[one] for one, _ in cells])
        beta = np.array([betas[two] for _, two in cells])
        return {
            "A": own[:, 0] * np.exp(alpha * middle[0]), "B": own[:, 1] * np.exp(beta * middle[1]),
            "E": own[:, 2], "alpha": alpha, "beta": beta,
        }  # fmt: skip

    def loss(self, values: Values, rows: Rows) -> Array:
        """Predicted losses."""
        v = {name: _column(values, name) for name in self.names}
        assert rows.params is not None
        assert rows.tokens is not None
        result: Array = v["E"] + v["A"] * rows.params ** -v["alpha"] + v["B"] * rows.tokens ** -v["beta"]
        return result

    def optimum(self, values: Values, compute: float, factor: float, **asked: Any) -> dict[str, Array]:
        """In closed form."""
        v = {name: np.atleast_1d(values[name]) for name in self.names}
        params = two_powers(v["A"], v["B"], v["alpha"], v["beta"], compute, factor)
        tokens = compute / factor / params
        loss = v["E"] + v["A"] * params ** -v["alpha"] + v["B"] * tokens ** -v["beta"]
        return {"params": params, "tokens": tokens, "loss": loss}

    def exponents(self, values: Values) -> dict[str, Array]:
        """A = beta / (alpha + beta) of parameters, b of tokens."""
        alpha, beta = np.atleast_1d(values["alpha"]), np.atleast_1d(values["beta"])
        return {"a": beta / (alpha + beta), "b": alpha / (alpha + beta)}


class Power(Form):
    """L = E + A / X^alpha, of compute, parameters or tokens alone."""

    name, title = "power-law", "Power law with offset"
    text = "L = E + A / X^alpha"
    names = ("E", "A", "alpha")
    positive = ("alpha",)
    allocates = False
    source = "Hestness et al. 2017 (arXiv 1712.00409); Henighan et al. 2020 (arXiv 2010.14701)"

    def of(self, rows: Rows) -> Array:
        """What the loss is a power of."""
        found = rows.flops if self.along == "compute" else getattr(rows, self.along)
        result: Array = found
        return result

    def build(self, rows: Rows) -> Powers:
        """The form on rows."""
        return Powers([Term("A", {"alpha": -np.log(self.of(rows))}), Term("E")], len(rows), self.fixed)

    def starts(self, rows: Rows, objective: Objective) -> dict[str, Array]:
        """Cells of a grid over the exponent."""
        alphas = _axis(self.fixed, "alpha")
        logs = np.log(self.of(rows))
        first = np.exp(-np.outer(alphas, logs - logs.mean()))
        cells, table = best_cells(first, None, True, rows.losses, objective)
        own = np.maximum(np.array([table[cell] for cell in cells]), 1e-6 * rows.losses.min())
        alpha = np.array([alphas[one] for one, _ in cells])
        return {"A": own[:, 0] * np.exp(alpha * logs.mean()), "E": own[:, 2], "alpha": alpha}

    def loss(self, values: Values, rows: Rows) -> Array:
        """Predicted losses."""
        result: Array = _column(values, "E") + _column(values, "A") * self.of(rows) ** -_column(
            values, "alpha"
        )
        return result


class Kaplan(Form):
    """L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D."""

    name, title = "kaplan", "Kaplan"
    text = "L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D"
    names = ("alpha_N", "alpha_D", "N_c", "D_c")
    positive = ("alpha_N", "alpha_D")
    rugged = True
    source = "Kaplan et al. 2020 (arXiv 2001.08361), equation 1.5"

    def __init__(self, fixed: Mapping[str, float] | None = None, tied: bool = False, along: str = "") -> None:
        super().__init__(fixed, tied, along)
        if self.fixed or tied:
            raise InputError(
                f"--{'fix' if self.fixed else 'tied'} is not for the form kaplan.", "Leave it out."
            )

    def build(self, rows: Rows) -> Powers:
        """The form on rows: a sum of two powers, raised to alpha_D."""
        assert rows.params is not None
        assert rows.tokens is not None
        terms = [Term("wide", {"power": -np.log(rows.params)}), Term("D_c", offset=-np.log(rows.tokens))]
        return Powers(terms, len(rows), scale="alpha_D")

    def starts(self, rows: Rows, objective: Objective) -> dict[str, Array]:
        """Cells of grids over the inner exponent, for a few outer ones."""
        assert rows.params is not None
        assert rows.tokens is not None
        powers = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0])
        wide, long = np.log(rows.params), np.log(rows.tokens)
        first = np.exp(-np.outer(powers, wide - wide.mean()))
        second = np.exp(-(long - long.mean()))[None]
        lists: dict[str, list[float]] = {"alpha_N": [], "alpha_D": [], "N_c": [], "D_c": []}
        for outer in (0.03, 0.05, 0.08, 0.12, 0.17, 0.24, 0.33, 0.45, 0.65):
            cells, table = best_cells(first, second, False, rows.losses, objective, outer)
            for cell in cells[:3]:
                own = np.maximum(table[cell], 1e-9 * table[cell].max())
                power = powers[cell[0]]
                lists["alpha_D"].append(outer)
                lists["alpha_N"].append(power * outer)
                lists["N_c"].append(float(np.exp(np.log(own[0]) / power + wide.mean())))
                lists["D_c"].append(float(own[1] * np.exp(long.mean())))
        return {name: np.array(found) for name, found in lists.items()}

    def values(self, built: Any, theta: Array) -> dict[str, Array]:
        """Parameters as they are told."""
        found = built.public(theta)
        with np.errstate(all="ignore"):
            wide = np.exp(np.clip(np.log(found["wide"]) / found["power"], -700, 700))
        return {
            "alpha_N": found["power"] * found["alpha_D"], "alpha_D": found["alpha_D"],
            "N_c": wide, "D_c": found["D_c"],
        }  # fmt: skip

    def own(self, built: Any, values: Values) -> Array:
        """Points of a search."""
        power = np.atleast_1d(values["alpha_N"]) / np.atleast_1d(values["alpha_D"])
        wide = np.atleast_1d(values["N_c"]) ** power
        result: Array = built.own({**values, "power": power, "wide": wide})
        return result

    def loss(self, values: Values, rows: Rows) -> Array:
        """Predicted losses."""
        v = {name: _column(values, name) for name in self.names}
        assert rows.params is not None
        assert rows.tokens is not None
        inner = (v["N_c"] / rows.params) ** (v["alpha_N"] / v["alpha_D"]) + v["D_c"] / rows.tokens
        result: Array = inner ** v["alpha_D"]
        return result

    def optimum(self, values: Values, compute: float, factor: float, **asked: Any) -> dict[str, Array]:
        """In closed form: the inner sum is least where the loss is."""
        v = {name: np.atleast_1d(values[name]) for name in self.names}
        power = v["alpha_N"] / v["alpha_D"]
        params = two_powers(v["N_c"] ** power, v["D_c"], power, 1.0, compute, factor)
        tokens = compute / factor / params
        loss = ((v["N_c"] / params) ** power + v["D_c"] / tokens) ** v["alpha_D"]
        return {"params": params, "tokens": tokens, "loss": loss}

    def exponents(self, values: Values) -> dict[str, Array]:
        """Of parameters and tokens over compute."""
        power = np.atleast_1d(values["alpha_N"]) / np.atleast_1d(values["alpha_D"])
        return {"a": 1 / (1 + power), "b": power / (1 + power)}
