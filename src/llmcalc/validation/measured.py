"""Predictions beside measurements: real runs of engines, and the errors of what is predicted for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llmcalc.errors import LlmcalcError
from llmcalc.units import MIB

QUANTITIES = ("weights", "kv_cache", "state", "activations", "host_activations", "peak")
"""What is compared, in this order."""

ERAS = ("2026", "2025", "2024", "2023", "ik", "mlx")
"""Builds of llama.cpp by year, newest first; ik is ik_llama.cpp, a fork; mlx-lm has no years."""


POOLED = ("2024", "2025", "2026")
"""Years whose device buffers are also told together: each alone has few."""

ON_DEVICES = ("weights", "kv_cache", "state", "activations")

FULL = "kv_cache_full"
"""A measured cache of the layers without a window, where the log does not show the others'."""


class Row:
    """One figure: predicted and measured.

    Attributes
    ----------
    run : dict
        The measurement's entry.
    quantity : str
        Which of its figures.
    measured, predicted : float
        Sums over devices; for compute buffers the largest device's. [MiB]
    low, high : float
        The predicted range. [MiB]
    refusal : str
        Why nothing was predicted; a refusal counts as a miss.
    """

    __slots__ = ("high", "low", "measured", "predicted", "quantity", "refusal", "run")

    def __init__(
        self, run: dict[str, Any], quantity: str, measured: float, predicted: float = 0.0,
        low: float = 0.0, high: float = 0.0, refusal: str = "",
    ) -> None:  # fmt: skip
        self.run, self.quantity, self.measured = run, quantity, measured
        self.predicted, self.low, self.high, self.refusal = predicted, low, high, refusal

    @property
    def error(self) -> float | None:
        """Relative error; None where nothing was predicted. [-]"""
        if self.refusal:
            return None
        return self.predicted / self.measured - 1 if self.measured else float(self.predicted > 0)

    @property
    def inside(self) -> bool:
        """Whether the measured figure lies in the predicted range, to the digits printed."""
        return not self.refusal and self.low - 0.011 <= self.measured <= self.high + 0.011

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.run["name"],
            "era": self.run["era"],
            "program": self.run["program"],
            "build": self.run["build"],
            "model": self.run["model"],
            "quantity": self.quantity,
            "measured_mib": self.measured,
            "predicted_mib": None if self.refusal else round(self.predicted, 3),
            "error": self.error,
            "refusal": self.refusal or None,
            "source": self.run["source"],
        }


def compare_run(run: dict[str, Any], predict: Callable[..., Any]) -> list[Row]:
    """Predict one run and compare every figure it has.

    Parameters
    ----------
    run : dict
        An entry of the measurements.
    predict : callable
        `llmcalc.vram`.
    """
    asked = {name: figures for name, figures in run["measured"].items() if name in (*QUANTITIES, FULL)}
    if run.get("refusal"):
        return [_refused(run, name, value, run["refusal"]) for name, value in asked.items()]
    options = dict(run["options"])
    if run["engine"] == "llama.cpp" and "weights" not in asked and options.get("quant") is None:
        options["quant"] = "q4_k_m"  # the log does not say; caches and graphs do not depend on it
    fixed = {"engine": run["engine"], "allow_overlong": True}
    if run["engine"] == "llama.cpp":
        fixed["pp"] = run["gpus"] or None
    try:
        report = predict(run["model"], **fixed, **options)
        if FULL in asked:
            twice = predict(run["model"], **fixed, **options | {"n_ctx": 2 * options["n_ctx"]})
    except LlmcalcError as error:
        return [_refused(run, name, value, error.problem) for name, value in asked.items()]
    rows = []
    for name, value in asked.items():
        parts = ("amounts", "low", "high")
        if name == FULL:  # what a context twice as long adds; windows are full before
            figures = [_figure(twice, "kv_cache", p) - _figure(report, "kv_cache", p) for p in parts]
        else:
            figures = [_figure(report, name, part) for part in parts]
        expected, low, high = figures
        rows.append(Row(run, _quantity(name), _largest(name, value), expected, low, high))
    return rows


def _refused(run: dict[str, Any], name: str, value: float | Sequence[float], why: str) -> Row:
    """A figure that nothing is predicted for."""
    return Row(run, _quantity(name), _largest(name, value), refusal=why)


def _quantity(name: str) -> str:
    """The quantity that a measured figure is counted as."""
    return "kv_cache" if name == FULL else name


def _largest(name: str, value: float | Sequence[float]) -> float:
    """A measured figure: of compute buffers on several devices the largest."""
    if isinstance(value, (int, float)):
        return float(value)
    return float(max(value)) if name == "activations" else float(sum(value))


def _figure(report: Any, name: str, part: str) -> float:
    """The same of a report. [MiB]"""
    if name == "peak":  # what MLX counts: not the process around it
        low, high = report.range_bytes
        runtime = report["runtime"]
        total = {"amounts": report.total_bytes, "low": low, "high": high}[part]
        return float(total - getattr(runtime, part)[0]) / MIB
    names = report.names
    own = [int(one) for one in getattr(report[name], part)] if name in names else [0]
    host = int(getattr(report[f"host_{name}"], part)[0]) if f"host_{name}" in names else 0
    if name == "activations":
        return max(own) / MIB
    if name.startswith("host_"):
        return own[0] / MIB
    if name in ("kv_cache", "state"):  # logs print the sum, wherever it lies
        return (sum(own) + host) / MIB
    return sum(own) / MIB


def compare(
    runs: Iterable[dict[str, Any]], predict: Callable[..., Any], eras: Sequence[str] = ERAS
) -> list[Row]:
    """All figures of all runs of some years."""
    return [row for run in runs if run.get("era") in eras for row in compare_run(run, predict)]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of all lies at or below, between neighbours in a straight line.

    Examples
    --------
    >>> quantile([1.0, 2.0, 4.0], 0.75)
    3.0
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Summary:
    """Errors of one quantity in one year.

    Attributes
    ----------
    rows, refused : int
        Figures, and those that were refused. [-]
    median, p90, worst : float or None
        Of the absolute errors. [-]
    exact : int
        Figures within a thousandth. [-]
    covered, width : float
        Share of figures in the predicted range, and its mean width against the prediction. [-]
    """

    __slots__ = ("covered", "era", "exact", "median", "p90", "quantity", "refused", "rows", "width", "worst")

    def __init__(self, era: str, quantity: str, rows: Sequence[Row]) -> None:
        self.era, self.quantity, self.rows = era, quantity, len(rows)
        errors = [abs(row.error) for row in rows if row.error is not None]
        self.refused = len(rows) - len(errors)
        self.median = quantile(errors, 0.5) if errors else None
        self.p90 = quantile(errors, 0.9) if errors else None
        self.worst = max(errors) if errors else None
        self.exact = sum(error <= 0.001 for error in errors)
        self.covered = sum(row.inside for row in rows) / len(rows) if rows else 0.0
        spans = [(row.high - row.low) / row.predicted for row in rows if row.predicted]
        self.width = sum(spans) / len(spans) if spans else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Errors by year and quantity, in the order of both lists; then the years with few figures together."""
    found = []
    for era in ERAS:
        for quantity in QUANTITIES:
            own = [row for row in rows if row.run["era"] == era and row.quantity == quantity]
            if own:
                found.append(Summary(era, quantity, own))
    pooled = [row for row in rows if row.run["era"] in POOLED and row.run["gpus"]]
    if {row.run["era"] for row in pooled} == set(POOLED):
        label = f"{POOLED[0]}-{POOLED[-1]}"
        buffers = [row for row in pooled if row.quantity == "activations"]
        held = [row for row in pooled if row.quantity in ON_DEVICES]
        found += [Summary(label, "activations", buffers), Summary(label, "devices", held)]
    return found


__all__ = ["ERAS", "QUANTITIES", "Row", "Summary", "compare", "compare_run", "quantile", "summarise"]
