"""From runs to a fitted law: options checked, rows read, the fit, its bootstrap."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmcalc.answer.fit_law import LawFit
from llmcalc.answer.fit_law_parts import MOST, FitCall, budgets_near, positive
from llmcalc.errors import InputError, Problems, did_you_mean, one_of
from llmcalc.scaling.fitting import bootstrap, identify, lines
from llmcalc.scaling.fitting.experts import Experts
from llmcalc.scaling.fitting.forms import Chinchilla, Form, Kaplan, Power
from llmcalc.scaling.fitting.point import fit_point
from llmcalc.scaling.fitting.reading import read_rows
from llmcalc.scaling.fitting.repeated import DataConstrained
from llmcalc.scaling.fitting.solve import LOSSES, RESIDUALS, Objective


class Allocation(Form):
    """N = k_N C^a and D = k_D C^b."""

    name, title = "allocation", "Allocation"
    text = "N = k_N C^a, D = k_D C^b"
    names = ("k_N", "a", "k_D", "b")
    source = "Hoffmann et al. 2022 (arXiv 2203.15556), approaches 1 and 2"


FORMS: dict[str, type[Form]] = {
    form.name: form for form in (Chinchilla, Kaplan, Power, DataConstrained, Experts, Allocation)
}
ALIASES = {"power": "power-law", "powerlaw": "power-law", "repeated": "data-constrained",
           "muennighoff": "data-constrained", "hoffmann": "chinchilla", "experts": "moe"}  # fmt: skip
ALONG = {"params": "N", "tokens": "D", "compute": "C"}
SAMPLED = ("rows", "runs")
LARGEST = 100_000
"""Resamples at most. [-]"""

PUBLISHED = {
    "Besiroglu et al. 2024 (arXiv 2404.10102), Table 1, an estimate of absolute values (L1)": {
        "E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658,
    },
    "Hoffmann et al. 2022 (arXiv 2203.15556), approach 3 of the TeX source": {
        "E": 1.69337368, "A": 406.401018, "B": 410.722827, "alpha": 0.33917084, "beta": 0.2849083,
    },
}  # fmt: skip
"""Parameters of the Chinchilla form that people compare with."""

NEAR = 5e-4
"""Relative difference within which a fit is a published one, to the digits printed. [-]"""


class Settings:
    """The options of a fit, checked; see `llmcalc.fit_law` for what they mean."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        problems = Problems()
        self.asked = asked
        self.form: Form = Chinchilla()
        self.loss, self.delta, self.residual = "huber", 1e-3, "log"
        self.approach: int | None = 3
        with problems:
            self._shape()
        with problems:
            self._estimator()
        self.level, self.resamples, self.seed, self.by_run = 0.95, 1000, 0, False
        with problems:
            self._sampling()
        self.budgets: list[float] = []
        self.holdout: float | None = None
        self.units: dict[str, float] = {}
        with problems:
            self._numbers()
        problems.check()

    def _shape(self) -> None:
        """Form, approach, what is held."""
        asked = self.asked
        name = str(asked["form"]).strip().lower().replace("_", "-")
        name = ALIASES.get(name, name)
        if name not in FORMS:
            near = did_you_mean(name, FORMS)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise InputError(f"--form {name[:30]!r} is not known.", f"{hint}Use {one_of(list(FORMS))}.")
        approach = str(3 if asked["approach"] is None else asked["approach"]).strip()
        if approach not in ("1", "2", "3"):
            raise InputError(
                f"--approach is {approach[:20]!r}.", "Use 1 (envelope), 2 (IsoFLOP) or 3 (all runs)."
            )
        self.approach = int(approach)
        fixed = fixed_of(asked["fix"])
        along = "" if asked["along"] is None else str(asked["along"]).strip().lower()
        if along and along not in ALONG:
            raise InputError(f"--along is {along[:20]!r}.", f"Use {one_of(list(ALONG))}.")
        if along and name != "power-law":
            raise InputError(f"--along is for --form power-law; the form is {name}.", "Leave it out.")
        if name == "allocation":
            if asked["approach"] is not None:
                raise InputError(
                    "--form allocation takes optima as given; --approach finds them.", "Use one of both."
                )
            self.approach = None
        elif self.approach != 3 and name != "chinchilla":
            raise InputError(
                f"--approach {approach} finds optima without a form; --form is {name}.", "Use one of both."
            )
        if self.approach != 3:
            for key in ("fix", "tied", "holdout"):
                if asked[key]:
                    raise InputError(f"--{key} is for --approach 3.", "Leave it out, or use --approach 3.")
            self.form = Allocation()
            return
        self.form = FORMS[name](
            fixed, bool(asked["tied"]), along or ("compute" if name == "power-law" else "")
        )
        if asked["tied"] and name == "power-law":
            raise InputError("--tied is for forms of two exponents.", "Leave it out.")
        if asked["tied"] and "beta" in fixed:
            raise InputError("--tied and --fix beta contradict each other.", "Use --fix alpha, or no --tied.")

    def _estimator(self) -> None:
        """Loss, delta, residuals."""
        asked = self.asked
        self.loss = str(asked["loss"] or "huber").strip().lower()
        self.residual = str(asked["residual"] or "log").strip().lower()
        if self.loss not in LOSSES:
            raise InputError(f"--loss is {self.loss[:20]!r}.", f"Use {one_of(LOSSES)}.")
        if self.residual not in RESIDUALS:
            raise InputError(f"--residual is {self.residual[:20]!r}.", f"Use {one_of(RESIDUALS)}.")
        if asked["delta"] is not None:
            if self.loss != "huber":
                raise InputError(f"--delta is for --loss huber, not {self.loss}.", "Leave one of both out.")
            self.delta = positive(asked["delta"], "--delta", "0.001", 1e6)
            if self.delta < 1e-9:
                raise InputError(f"--delta is {self.delta:g}, below rounding.", "Use --loss l1.")
        if self.approach != 3:
            for key in ("loss", "delta", "residual"):
                if asked[key] is not None:
                    raise InputError(f"--{key} is for --approach 3.", "Leave it out, or use --approach 3.")

    def _sampling(self) -> None:
        """The bootstrap."""
        asked = self.asked
        number = asked["bootstrap"]
        try:
            self.resamples = int(number)
            whole = self.resamples == float(number)
        except (TypeError, ValueError, OverflowError):
            whole = False
        if (
            not whole
            or isinstance(number, bool)
            or not (self.resamples == 0 or 20 <= self.resamples <= LARGEST)
        ):
            raise InputError(
                f"--bootstrap is {str(number)[:20]}.",
                f"Use 0 for none, or 20 to {LARGEST:,} resamples; 1000 is usual.",
            )
        self.level = positive(asked["level"], "--level", "0.95")
        if not 0.5 <= self.level <= 0.999:
            raise InputError(f"--level is {self.level:g}.", "Use 0.5 to 0.999, such as 0.95.")
        try:
            self.seed = int(asked["seed"])
        except (TypeError, ValueError, OverflowError):
            self.seed = -1
        if not 0 <= self.seed < 2**63:
            raise InputError(f"--seed is {str(asked['seed'])[:20]!r}.", "Use a whole number from 0.")
        word = str(asked["resample"] or "rows").strip().lower()
        if word not in SAMPLED:
            raise InputError(f"--resample is {word[:20]!r}.", f"Use {one_of(SAMPLED)}.")
        self.by_run = word == "runs"
        if self.by_run and self.approach != 3:
            raise InputError(
                "--resample is for --approach 3.", "Leave it out: approach 1 draws runs, 2 rows."
            )

    def _numbers(self) -> None:
        """Budgets, units, the hold-out."""
        asked = self.asked
        self.budgets = [positive(one, "--compute", "1e21", MOST) for one in listed(asked["compute"])]
        if asked["holdout"] is not None:
            self.holdout = positive(asked["holdout"], "--holdout", "1e21", MOST)
        for role in ("params", "tokens", "compute", "unique"):
            value = asked.get(f"{role}_unit")
            if value is not None:
                self.units[role] = positive(value, f"--{role}-unit", "1e6", 1e18)

    def told(self) -> dict[str, Any]:
        """Settings as they are shown."""
        return {
            "loss": self.loss, "delta": self.delta, "residual": self.residual, "level": self.level,
            "seed": self.seed, "resample": "runs" if self.by_run else "rows", "holdout": self.holdout,
            "fixed": dict(self.form.fixed), "tied": self.form.tied, "along": self.form.along or None,
        }  # fmt: skip


def listed(value: Any) -> list[Any]:
    """Values of a list, or of a text with commas."""
    if value is None:
        return []
    if isinstance(value, str):
        return [one.strip() for one in value.split(",")]
    return list(value) if hasattr(value, "__iter__") else [value]


def fixed_of(value: Any) -> dict[str, float]:
    """Parameters that are held: a mapping, or ``alpha=0.34,E=1.69``."""
    if value is None:
        return {}
    example = "Write --fix NAME=VALUE, such as --fix alpha=0.34."
    pairs = list(value.items()) if isinstance(value, Mapping) else []
    if not isinstance(value, Mapping):
        for one in listed(value):
            name, sign, number = str(one).partition("=")
            if not sign:
                raise InputError(f"--fix {str(one)[:30]!r} has no value.", example)
            pairs.append((name.strip(), number))
    found: dict[str, float] = {}
    for name, number in pairs:
        try:
            found[str(name)] = float(number)
        except (TypeError, ValueError):
            raise InputError(f"--fix {name}: {str(number)[:20]!r} is not a number.", example) from None
        if not np.isfinite(found[str(name)]) and name != "E_max":
            raise InputError(f"--fix {name} is {number}.", "Use a finite number.")
        if str(name)[:1] in "ABEabcR" and str(name) not in ("alpha", "beta") and found[str(name)] < 0:
            raise InputError(f"--fix {name} is {number}, below 0.", "Use 0 or more.")
    return found


def fit(source: Any, asked: dict[str, Any]) -> LawFit:
    """Fit a law to runs; the keywords are those of `llmcalc.fit_law`."""
    settings = Settings(asked)
    form = settings.form
    told = {
        role: asked[f"{role}_col"]
        for role in ("params", "tokens", "loss", "compute", "run", "unique", "experts", "sd")
    }
    told["runs"], told["spread"] = told.pop("run"), told.pop("sd")
    given = settings.approach is None
    wanted: Sequence[str] = (form.along,) if form.along else form.needs
    if given:
        wanted = ("params", "tokens", "spread") if told["spread"] else ("params", "tokens")
    if settings.by_run or (settings.approach == 1 and told["runs"]):
        wanted = (*wanted, "runs")
    reading = read_rows(
        source, wanted, told, asked["params_convention"], conditions(asked["where"]),
        settings.units, bool(asked["skip_invalid"]), need_loss=not given,
    )  # fmt: skip
    made = LawFit(form, settings.approach, reading, settings.told())
    made.call = FitCall(os.fspath(source) if isinstance(source, (str, os.PathLike)) else source, used(asked))
    if settings.approach == 3:
        _by_form(made, settings, asked)
    else:
        _by_lines(made, settings, asked)
    _summaries(made)
    _optima(made, settings, asked)
    return made


def conditions(value: Any) -> list[str]:
    """Conditions on rows: one, or several."""
    return [str(one) for one in ([value] if isinstance(value, str) else value or ())]


DEFAULTS = {"form": "chinchilla", "bootstrap": 1000, "level": 0.95, "seed": 0}


def used(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords that differ from their defaults."""
    return {
        key: value for key, value in asked.items()
        if value is not None and value is not False and not (key in DEFAULTS and value == DEFAULTS[key])
        and not (isinstance(value, (list, tuple)) and not value)
    }  # fmt: skip


def _by_form(made: LawFit, settings: Settings, asked: Mapping[str, Any]) -> None:
    """Approach 3: all rows, one form."""
    form, rows = settings.form, made.data
    identify.check(form, rows)
    if settings.by_run and len(np.unique(rows.runs)) < 5:
        raise InputError(
            f"--resample runs finds {len(np.unique(rows.runs))} runs in column "
            f"{made.reading.columns['runs']}: "
            "too few to draw from.",
            "Name the column of runs with --run-col, or resample rows.",
        )
    made.measure = Objective(settings.loss, settings.delta, settings.residual)
    point = fit_point(form, rows, made.measure)
    made.point, made.objective, made.residuals = point, point.objective, point.residuals
    made.params = point.values
    made.exponents = {name: float(one[0]) for name, one in form.exponents(point.values).items()}
    theta = None
    if settings.resamples:
        theta = bootstrap.resample(
            form, rows, point, made.measure, settings.resamples, settings.seed, settings.by_run,
            asked["executor"], asked["progress"],
        )  # fmt: skip
        made.resamples = settings.resamples
        made.samples = form.values(point.built, theta)
        with np.errstate(all="ignore"):
            made.samples = {**made.samples, **form.exponents(made.samples)}
    made.doubts = identify.doubts(form, made.params, made.samples, rows)
    made.doubts += identify.edges(point.built, point.theta, theta)
    if form.name == "chinchilla":
        made.matches = next((name for name, values in PUBLISHED.items() if _alike(made.params, values)), None)


def _alike(params: Mapping[str, float], values: Mapping[str, float]) -> bool:
    return all(abs(params[name] / value - 1) < NEAR for name, value in values.items())


def _by_lines(made: LawFit, settings: Settings, asked: Mapping[str, Any]) -> None:
    """Approaches 1 and 2, and given optima."""
    rows = made.data
    if settings.approach == 2:
        found = lines.isoflop(rows)
        groups = [group for group, _ in found.profiles]
        values = lines.lines(found.compute, found.params, found.tokens, np.ones((1, len(found.compute))))
        work: Any = lines.isoflop_batch
        first: tuple[Any, ...] = (rows, groups)
    elif settings.approach == 1:
        found, own = lines.envelope(rows)
        if rows.runs is None:
            made.notes.append("Rows of one size are taken for checkpoints of one run; --run-col names runs.")
        values = {name: np.array([one]) for name, one in own.items()}
        work, first = lines.envelope_batch, (*lines.curves(rows), rows.factor)
    else:
        found = lines.Optima(rows.flops, rows.params, rows.tokens, None)
        if len(np.unique(np.round(np.log(rows.flops), 6))) < 2:
            raise InputError("Optima of one budget can't tell an exponent.", "Give two budgets at least.")
        weights = np.ones(len(rows)) if rows.spread is None else rows.spread**-2.0
        values = lines.lines(rows.flops, rows.params, rows.tokens, weights[None])
        work, first = lines.given_batch, (rows, weights)
    made.lines = found
    made.params = {name: float(one[0]) for name, one in values.items()}
    made.notes += [f"Left out: {told}." for told in found.left_out]
    if settings.resamples:
        made.samples = lines.resampled(
            work, first, settings.resamples, len(rows), settings.seed, asked["executor"], asked["progress"]
        )
        made.resamples = settings.resamples


def _summaries(made: LawFit) -> None:
    """Standard errors and intervals of all that was fitted."""
    for name, samples in made.samples.items():
        if name in made.settings["fixed"]:
            continue
        good = samples[np.isfinite(samples)]
        made.standard_errors[name] = float(good.std()) if len(good) else float("nan")
        made.intervals[name] = made._interval(samples)


def _optima(made: LawFit, settings: Settings, asked: Mapping[str, Any]) -> None:
    """The best parameters and tokens at the budgets asked for, else near the largest compute."""
    if not made.fitted.allocates or (made.form == "moe" and asked["experts"] is None):
        if settings.budgets and made.form != "moe":
            made.fitted.optimum({}, 1.0, 6.0)
        if made.form == "moe":
            made.notes.append("Optima depend on the experts: --experts 8 shows them.")
        return
    for budget in settings.budgets or budgets_near(made.largest):
        try:
            made.optima.append(made.optimum(budget, unique=asked["unique_tokens"], experts=asked["experts"]))
        except InputError as error:
            if settings.budgets:
                raise
            made.doubts.append(error.problem)
            return
