"""The form for mixtures of experts: coefficients and exponents that move with the number of experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmcalc.errors import InputError
from llmcalc.scaling.fitting.forms import Chinchilla, Form, Values, _column, two_powers
from llmcalc.scaling.fitting.powers import Array, Powers, Term
from llmcalc.scaling.fitting.rows import Rows
from llmcalc.scaling.fitting.solve import Objective


def effective(experts: Any, start: float, most: float) -> Any:
    """Experts that count: few at first, then nearly all, at most `most`.

    With a start of 1 and no most it is the number of experts itself.

    Examples
    --------
    >>> float(effective(8.0, 1.0, np.inf)), round(float(effective(1.0, 2.0732, 290.4521)), 4)
    (8.0, 2.0732)
    """
    return 1 / (1 / (experts - 1 + 1 / (1 / start - 1 / most)) + 1 / most)


class Experts(Form):
    """L = a X^delta N^(alpha + gamma ln X) + b X^omega D^(beta + zeta ln X) + c, X the experts that count."""

    name, title = "moe", "Mixture of experts"
    text = "L = a X^delta N^(alpha + gamma ln X) + b X^omega D^(beta + zeta ln X) + c"
    names = ("a", "alpha", "delta", "gamma", "b", "beta", "omega", "zeta", "c", "E_start", "E_max")
    rugged = True
    negative = ("alpha", "beta")
    needs = ("params", "tokens", "experts")
    source = "Ludziejewski et al. 2025 (arXiv 2502.05172), equations 1 and 4; X after Clark et al. 2022"

    def __init__(self, fixed: Mapping[str, float] | None = None, tied: bool = False, along: str = "") -> None:
        super().__init__(fixed, tied, along)
        if tied:
            raise InputError("--tied is not for the form moe.", "Leave it out.")
        self.start = self.fixed.setdefault("E_start", 1.0)
        self.most = self.fixed.setdefault("E_max", np.inf)
        if not 0 < self.start < self.most:
            raise InputError(
                f"--fix has E_start {self.start:g} and E_max {self.most:g}.", "Use 0 < E_start < E_max."
            )

    def _counted(self, rows: Rows) -> Array:
        result: Array = np.log(effective(rows.experts, self.start, self.most))
        return result

    def build(self, rows: Rows) -> Powers:
        """The form on rows."""
        assert rows.params is not None
        assert rows.tokens is not None
        counted, wide, long = self._counted(rows), np.log(rows.params), np.log(rows.tokens)
        terms = [
            Term("a", {"delta": counted, "alpha": wide, "gamma": counted * wide}),
            Term("b", {"omega": counted, "beta": long, "zeta": counted * long}),
            Term("c"),
        ]
        own = {name: value for name, value in self.fixed.items() if name not in ("E_start", "E_max")}
        return Powers(terms, len(rows), own)

    def values(self, built: Any, theta: Array) -> dict[str, Array]:
        """Parameters as they are told."""
        found = built.public(theta)
        for name in ("E_start", "E_max"):
            found[name] = np.full(len(theta), self.fixed[name])
        return {name: found[name] for name in self.names}

    def starts(self, rows: Rows, objective: Objective) -> dict[str, Array]:
        """Those of a dense law of the active parameters."""
        dense = Chinchilla().starts(rows, objective)
        none = np.zeros_like(dense["A"])
        return {
            "a": dense["A"], "alpha": -dense["alpha"], "b": dense["B"], "beta": -dense["beta"],
            "c": dense["E"], **dict.fromkeys(("delta", "gamma", "omega", "zeta"), none),
        }  # fmt: skip

    def _at(self, values: Values, counted: Any) -> tuple[Any, Any, Any, Any]:
        """Coefficients and exponents of the two terms for a number of experts."""
        v = {name: _column(values, name) for name in self.names}
        scale = np.exp(v["delta"] * counted), np.exp(v["omega"] * counted)
        return (
            v["a"] * scale[0], v["alpha"] + v["gamma"] * counted,
            v["b"] * scale[1], v["beta"] + v["zeta"] * counted,
        )  # fmt: skip

    def loss(self, values: Values, rows: Rows) -> Array:
        """Predicted losses."""
        first, alpha, second, beta = self._at(values, self._counted(rows))
        result: Array = first * rows.params**alpha + second * rows.tokens**beta + _column(values, "c")
        return result

    def optimum(self, values: Values, compute: float, factor: float, **asked: Any) -> dict[str, Array]:
        """In closed form, for a number of experts."""
        experts = asked.get("experts")
        if experts is None:
            raise InputError(
                "The best parameters and tokens depend on the experts.",
                "Give them: --experts 8 (1 for a dense model).",
            )
        counted = np.log(effective(float(experts), self.start, self.most))
        first, alpha, second, beta = (one[:, 0] for one in self._at(values, counted))
        params = two_powers(first, second, -alpha, -beta, compute, factor)
        tokens = compute / factor / params
        loss = first * params**alpha + second * tokens**beta + np.atleast_1d(values["c"])
        return {"params": params, "tokens": tokens, "loss": loss}
