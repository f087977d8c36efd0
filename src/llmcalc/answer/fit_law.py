"""What `llmcalc fit-law` answers: a law's parameters, what follows from them, and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from llmcalc._version import __version__
from llmcalc.answer.fit_law_parts import MOST, FitCall, Optimum, positive
from llmcalc.errors import InputError
from llmcalc.formula import is_array

MANY = 10**9
"""Rows that make intervals plain percentiles. [-]"""


class LawFit:
    """A law fitted to runs.

    Attributes
    ----------
    form : str
        Name of the form; ``text`` is its formula.
    approach : int or None
        1, 2 or 3; None for optima that are given.
    params : dict
        Parameters by name. [-]
    exponents : dict
        Exponents of the best parameters (a) and tokens (b) over compute, where they are constant. [-]
    objective : float or None
        The minimum: a sum over rows, not a mean.
    intervals, standard_errors : dict
        Of parameters and exponents; empty without a bootstrap.
    samples : dict
        Parameters and exponents of each resample.
    residuals : ndarray
        ln(predicted / measured) of each row, or their difference.
    optima : list of Optimum
        At the budgets asked for.
    notes, doubts : list of str
        How the data were read; what they do not settle.
    """

    command = "fit-law"
    verdict = None
    version = __version__

    def __init__(self, form: Any, approach: int | None, reading: Any, settings: Mapping[str, Any]) -> None:
        self.fitted, self.approach, self.reading = form, approach, reading
        self.form, self.title, self.text = form.name, form.title, form.text
        self.data, self.settings = reading.rows, dict(settings)
        self.params: dict[str, float] = {}
        self.exponents: dict[str, float] = {}
        self.samples: dict[str, Any] = {}
        self.intervals: dict[str, tuple[float, float]] = {}
        self.standard_errors: dict[str, float] = {}
        self.objective: float | None = None
        self.residuals: Any = None
        self.point: Any = None
        self.measure: Any = None
        self.lines: Any = None
        self.optima: list[Optimum] = []
        self.notes: list[str] = list(reading.notes)
        self.doubts: list[str] = []
        self.matches: str | None = None
        self.resamples = 0
        self.call = FitCall("", {})

    # -- what follows ---------------------------------------------------------------------------

    @property
    def largest(self) -> float:
        """Largest compute of the data. [FLOP]"""
        return float(self.data.flops.max())

    def optimum(self, compute: Any, *, unique: Any = None, experts: Any = None) -> Optimum:
        """The best parameters and tokens for a budget, with intervals.

        Parameters
        ----------
        compute : float or str
            Training compute. [FLOP]
        unique : float, optional
            Of the data-constrained form: tokens that there are; all the tokens wanted. [tokens]
        experts : float, optional
            Of the form for mixtures of experts. [-]

        Returns
        -------
        Optimum
            With ``params``, ``tokens``, ``tokens_per_param``, ``loss`` and ``intervals``.

        Raises
        ------
        InputError
            If the form does not split compute, or the fit has no optimum.
        """
        import numpy as np

        budget = positive(compute, "--compute", "1e21", MOST)
        asked = {
            "unique": None if unique is None else positive(unique, "--unique-tokens", "1e11"),
            "experts": None if experts is None else positive(experts, "--experts", "8"),
        }
        here = self._optimum(self.params, budget, asked)
        values = {name: float(np.ravel(one)[0]) for name, one in here.items()}
        if not all(math.isfinite(one) and one > 0 for name, one in values.items() if name != "loss"):
            raise InputError(
                f"This fit has no optimum at {budget:g} FLOP: an exponent or a coefficient is 0 or negative.",
                "Look at the parameters; more runs, or --fix, may settle them.",
            )
        ends = {}
        if self.resamples:
            with np.errstate(all="ignore"):
                spread = self._optimum(self.samples, budget, asked)
            ends = {name: self._interval(one) for name, one in spread.items()}
        return Optimum(budget, values, ends, budget / self.largest)

    def _optimum(self, values: Mapping[str, Any], budget: float, asked: Mapping[str, Any]) -> dict[str, Any]:
        if self.lines is not None:
            found = {
                "params": values["k_N"] * budget ** values["a"],
                "tokens": values["k_D"] * budget ** values["b"],
            }
        else:
            found = self.fitted.optimum(values, budget, self.data.factor, **asked)
        return {**found, "tokens_per_param": found["tokens"] / found["params"]}

    def _interval(self, samples: Any) -> tuple[float, float]:
        from llmcalc.scaling.fitting.bootstrap import interval

        number = len(self.lines.compute) if self.lines is not None else len(self.data)
        fitted = 2 if self.lines is not None else self.fitted.free
        if self.settings.get("resample") == "runs" and self.lines is None:
            number = int(self.data.runs.max()) + 1
        if self.lines is None and self.measure.is_linear(self.residuals):
            number, fitted = MANY, 0
        return interval(samples, self.settings["level"], number, min(fitted, number - 1))

    def predict(self, **columns: Any) -> Any:
        """Losses of runs.

        Parameters
        ----------
        **columns
            ``params``, ``tokens``, ``compute``, ``unique`` or ``experts``, as the form needs: numbers
            or arrays.

        Returns
        -------
        float or ndarray
            Predicted losses.

        Raises
        ------
        InputError
            If the form needs others, or the approach predicts no losses.
        """
        import numpy as np

        if self.lines is not None:
            raise InputError("This approach gives optima, not losses.", "Fit with --approach 3.")
        needed = (self.fitted.along,) if self.fitted.along else self.fitted.needs
        missing = [name for name in needed if name not in columns]
        if missing:
            raise InputError(f"A prediction needs {', '.join(missing)}.", f"Give {', '.join(needed)}.")
        arrays: dict[str, Any] = {
            name: np.atleast_1d(
                np.asarray(positive(one, name, "1e9") if not is_array(one) else one, dtype=float)
            )
            for name, one in columns.items()
        }
        arrays = dict(zip(arrays, np.broadcast_arrays(*arrays.values()), strict=True))
        from llmcalc.scaling.fitting.rows import Rows

        rows = Rows(np.ones(len(next(iter(arrays.values())))), factor=self.data.factor, **arrays)
        found = self.fitted.loss(self.params, rows)[0]
        return found if any(is_array(one) for one in columns.values()) else float(found[0])

    def evaluate(self, **params: float) -> float:
        """The objective of other parameters on the same rows, such as published ones.

        Parameters
        ----------
        **params
            Parameters by name; those left out are the fitted ones.

        Returns
        -------
        float
            The same sum as ``objective``.

        Raises
        ------
        InputError
            For a name that the form has not.
        """
        import numpy as np

        if self.lines is not None:
            raise InputError("This approach has no objective over rows.", "Fit with --approach 3.")
        unknown = [name for name in params if name not in self.params]
        if unknown:
            raise InputError(
                f"The form {self.form} has no parameter {unknown[0][:20]!r}.",
                f"It has {', '.join(self.params)}.",
            )
        predicted = np.log(self.fitted.loss({**self.params, **params}, self.data))
        errors = self.measure.residuals(predicted, np.log(self.data.losses))
        return float(self.measure.total(errors, np.ones(len(self.data)))[0])

    # -- trust ----------------------------------------------------------------------------------

    @cached_property
    def holdout(self) -> Any:
        """A fit without the largest runs and its errors on them; None where that can't be."""
        return self._held[0]

    @property
    def no_holdout(self) -> str:
        """Why there is none."""
        return self._held[1]

    @cached_property
    def _held(self) -> tuple[Any, str]:
        from llmcalc.scaling.fitting.diagnose import hold_out

        if self.lines is not None:
            return None, "an approach through optima predicts no losses"
        try:
            return hold_out(
                self.fitted, self.data, self.measure, self.settings.get("holdout"), self.point
            ), ""
        except InputError as error:
            if self.settings.get("holdout") is not None:
                raise
            return None, error.problem

    @cached_property
    def leverage(self) -> Any:
        """How far each row pulls the fit to itself, 0 to 1; None of approaches through optima. (n,)"""
        from llmcalc.scaling.fitting.diagnose import leverage

        return None if self.lines is not None else leverage(self.point.built, self.point.theta)

    @cached_property
    def outliers(self) -> list[dict[str, Any]]:
        """Rows that lie far off, the farthest first."""
        from llmcalc.scaling.fitting.diagnose import outliers

        return [] if self.lines is not None else [self._row(place) for place in outliers(self.residuals)]

    @cached_property
    def heavy(self) -> list[dict[str, Any]]:
        """Rows of most leverage: above three times the mean."""
        import numpy as np

        if self.leverage is None:
            return []
        least = 3 * self.fitted.free / len(self.data)
        order = np.argsort(-self.leverage, kind="stable")
        return [self._row(int(place)) for place in order if self.leverage[place] > least]

    def _row(self, place: int) -> dict[str, Any]:
        rows = self.data
        kept = {
            name: float(getattr(rows, name)[place])
            for name in ("params", "tokens", "compute") if getattr(rows, name) is not None
        }  # fmt: skip
        return {
            "place": rows.places[place], **kept, "loss": float(rows.losses[place]),
            "residual": float(self.residuals[place]), "leverage": float(self.leverage[place]),
        }  # fmt: skip

    @property
    def estimator(self) -> str:
        """What was minimised, in words."""
        if self.lines is not None:
            return {1: "envelope of training curves", 2: "parabola in ln N at each budget"}.get(
                self.approach or 0, "line through given optima"
            )
        kind = {"huber": f"Huber (delta {self.settings['delta']:g})", "l1": "absolute values (L1)",
                "l2": "least squares (L2)"}[self.settings["loss"]]  # fmt: skip
        return f"{kind} of {self.settings['residual']} residuals, summed"

    @property
    def warnings(self) -> list[str]:
        """How the data were read, and which budgets lie beyond them."""
        told = list(self.notes)
        if any(one.beyond > 1.05 for one in self.optima):
            told.append(f"Budgets above {self.largest:.3g} FLOP lie beyond the data.")
        return told

    # -- shapes ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the schema has them."""
        from llmcalc.render.fit_law_data import as_dict

        return as_dict(self)

    def to_json(self) -> str:
        """The same as JSON."""
        import json

        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def to_text(self, units: str = "", color: bool = False) -> str:
        """What the terminal shows."""
        from llmcalc.render.fit_law import as_text

        return as_text(self)

    def to_markdown(self, units: str = "") -> str:
        """Tables that end with how to reproduce them."""
        from llmcalc.render.fit_law import as_tables

        return as_tables(self, "markdown")

    def to_latex(self, units: str = "") -> str:
        """LaTeX tables."""
        from llmcalc.render.fit_law import as_tables

        return as_tables(self, "latex")

    def to_html(self, units: str = "") -> str:
        """A page with tables and, where matplotlib is installed, pictures."""
        from llmcalc.render.fit_law import as_page

        return as_page(self)

    def to_csv(self, units: str = "") -> str:
        """A row for each parameter, exponent and optimum."""
        from llmcalc.render.fit_law_data import as_csv

        return as_csv(self)

    def to_frame(self) -> Any:
        """A pandas DataFrame of the rows: data, prediction, residual, leverage."""
        from llmcalc.render.fit_law_data import as_frame

        return as_frame(self)

    def explain(self, units: str = "") -> str:
        """The form, the estimator and what is derived, each with its formula and source."""
        from llmcalc.render.fit_law_data import as_explanation

        return as_explanation(self)

    def plot(self, file: str | None = None) -> Any:
        """Pictures of the fit (needs the ``plot`` extra); saved where `file` is given."""
        from llmcalc.render.fit_law_plot import as_plot

        return as_plot(self, file)

    def _repr_html_(self) -> str:
        from llmcalc.render.fit_law import as_tables

        return as_tables(self, "html")

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {value:.5g}" for name, value in self.params.items())
        return f"<fit of {self.form} to {len(self.data)} rows: {told}>"
