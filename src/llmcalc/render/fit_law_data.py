"""A fitted law as JSON, CSV, a frame, and explained."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from llmcalc.render.fit_law import paragraph


def as_csv(fit: Any) -> str:
    """A row for each parameter, exponent and figure of an optimum."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["kind", "compute", "name", "value", "standard_error", "low", "high"])
    for kind, values in (("parameter", fit.params), ("exponent", fit.exponents)):
        for name, value in values.items():
            ends = fit.intervals.get(name, ("", ""))
            writer.writerow([kind, "", name, value, fit.standard_errors.get(name, ""), *ends])
    for one in fit.optima:
        for name in one.NAMES:
            if getattr(one, name) is not None:
                ends = one.intervals.get(name, ("", ""))
                writer.writerow(["optimum", one.compute, name, getattr(one, name), "", *ends])
    if fit.objective is not None:
        writer.writerow(["objective", "", fit.estimator, fit.objective, "", "", ""])
    return out.getvalue()


def as_frame(fit: Any) -> Any:
    """The rows with prediction, residual and leverage."""
    import pandas as pd

    rows = fit.data
    own = {
        name: getattr(rows, name)
        for name in ("params", "tokens", "unique", "experts") if getattr(rows, name) is not None
    }  # fmt: skip
    frame = pd.DataFrame({"place": rows.places, **own, "compute": rows.flops, "loss": rows.losses})
    if fit.lines is None:
        frame["predicted"] = fit.fitted.loss(fit.params, rows)[0]
        frame["residual"] = fit.residuals
        frame["leverage"] = fit.leverage
    return frame


# -- data ---------------------------------------------------------------------------------------


def as_dict(fit: Any) -> dict[str, Any]:
    """The contract's JSON as plain values; numbers that are not finite are null."""
    own = [_named(fit, name, value, name in fit.settings["fixed"]) for name, value in fit.params.items()]
    more = [_named(fit, name, value, False) for name, value in fit.exponents.items()]
    rows, held = fit.data, fit.holdout
    made = {
        "schema": 1,
        "command": fit.command,
        "form": {"name": fit.form, "text": fit.text, "source": fit.fitted.source},
        "approach": fit.approach,
        "scenario": {**fit.settings, "bootstrap": fit.resamples, "columns": fit.reading.columns,
                     "params_convention": fit.reading.convention, "flop_per_param_token": rows.factor},
        "data": {"name": fit.reading.name, "rows": len(rows), **_ranges(rows)},
        "estimator": fit.estimator,
        "objective": fit.objective,
        "parameters": own,
        "exponents": more,
        "optima": [one.to_dict() for one in fit.optima],
        "holdout": None if held is None else {
            "above": held.above, "fitted": held.fitted, "held": held.held, "mean_error": held.mean,
            "worst_error": held.worst, "bias": held.bias, "reach": held.reach, "parameters": held.values,
        },
        "budgets": None if fit.lines is None else [
            {"compute": float(c), "params": float(n), "tokens": float(d)}
            for c, n, d in zip(fit.lines.compute, fit.lines.params, fit.lines.tokens, strict=True)
        ],
        "outliers": fit.outliers,
        "leverage": fit.heavy,
        "doubts": fit.doubts,
        "warnings": fit.warnings,
        "published": fit.matches,
        "call": fit.call.shell(),
        "version": fit.version,
    }  # fmt: skip
    cleaned: dict[str, Any] = _finite(made)
    return cleaned


def _named(fit: Any, name: str, value: float, held: bool) -> dict[str, Any]:
    ends = fit.intervals.get(name)
    return {
        "name": name, "value": value, "standard_error": fit.standard_errors.get(name),
        "interval": None if ends is None else list(ends), "held": held,
    }  # fmt: skip


def _ranges(rows: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"compute": [float(rows.flops.min()), float(rows.flops.max())]}
    for name in ("params", "tokens", "losses"):
        values = getattr(rows, name)
        if values is not None:
            found["loss" if name == "losses" else name] = [float(values.min()), float(values.max())]
    return found


def _finite(value: Any) -> Any:
    """Plain values that JSON can hold."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, float) or hasattr(value, "item"):
        number = value.item() if hasattr(value, "item") else value
        return number if not isinstance(number, float) or math.isfinite(number) else None
    return value


# -- explanation --------------------------------------------------------------------------------

DERIVED = {
    "chinchilla": (
        "a = beta / (alpha + beta), b = 1 - a",
        "G = (alpha A / (beta B))^(1 / (alpha + beta))",
        "N = G (C / k)^a, D = (C / k)^b / G, k FLOP a parameter and token",
    ),
    "kaplan": ("p = alpha_N / alpha_D; a = 1 / (1 + p), b = p / (1 + p)",),
    "allocation": ("N = k_N C^a and D = k_D C^b, by least squares on logarithms",),
}  # fmt: skip


def as_explanation(fit: Any) -> str:
    """The form, what was minimised and what is derived, with sources."""
    lines = ["law", f"  {fit.text}", f"  from {fit.fitted.source}"]
    numbers = ", ".join(f"{name} = {value:.8g}" for name, value in fit.params.items())
    lines += ["  with", *paragraph(f"  {numbers}")]
    if fit.lines is None:
        r = "ln(predicted / measured)" if fit.settings["residual"] == "log" else "predicted - measured"
        rho = {
            "huber": f"r^2 / 2 up to |r| = {fit.settings['delta']:g}, {fit.settings['delta']:g} "
            "(|r| - {fit.settings['delta'] / 2:g}) beyond",
            "l1": "|r|", "l2": "r^2 / 2",
        }[fit.settings["loss"]]  # fmt: skip
        lines += ["", "objective", f"  sum over {len(fit.data):,} rows of rho(r), r = {r}", f"  rho = {rho}",
                  f"  = {fit.objective:.12g}"]  # fmt: skip
    else:
        lines += ["", "optima", f"  {fit.estimator}"]
    if fit.form in DERIVED:
        lines += ["", "derived", *(f"  {line}" for line in DERIVED[fit.form]), f"  k = {fit.data.factor:g}"]
    if fit.resamples:
        lines += ["", "intervals", *paragraph(
            "percentiles of refits to rows drawn with replacement, widened by t and n / (n - p) for few rows "
            "(Hesterberg 2015, The American Statistician 69:371)"
        )]  # fmt: skip
    lines += ["", "columns", *(f"  {role}: {name}" for role, name in fit.reading.columns.items())]
    return "\n".join(lines) + "\n"
