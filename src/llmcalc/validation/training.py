"""Training runs: what is predicted for a published peak, and for a card that was too small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llmcalc.errors import LlmcalcError
from llmcalc.units import GIB
from llmcalc.validation.measured import quantile

ENGINE = "training"
"""What such runs have as their engine."""

GROUPS = ("full", "lora", "qlora", "sharded full", "sharded lora", "megatron", "megatron-b200")

METRICS = {"allocated": "allocated", "active": "allocated", "unknown": "allocated", "reserved": "reserved"}
"""What is predicted for a printed figure. Active bytes are the allocated ones, rounded to blocks."""

_MISS = 1e12
"""The error of a refusal: above any other, and finite, since infinities have no quantiles."""

TOGETHER = {
    "all": ("full", "lora", "qlora"),
    "all sharded": ("sharded full", "sharded lora", "megatron"),
}
"""Groups that are summed up together: one GPU, and several."""

TARGETS = {"all": {1: (0.05, 0.15), 2: (0.08, None)}, "all sharded": {1: (0.06, 0.18), 2: (0.10, None)}}
"""Median and 90th percentile aimed at, by quality. [-]"""


class TrainingRow:
    """One run: predicted and measured.

    Attributes
    ----------
    run : dict
        The measurement's entry.
    measured, predicted, low, high : float
        Peak as published; expected, and the predicted range. Of a run that ran out of memory `measured`
        is what a process could use of its card. [GiB]
    floor : float
        Weights, gradients and optimizer states by themselves, which lie in memory together. [GiB]
    phase : str
        Where the predicted peak lies.
    refusal : str
        Why nothing was predicted; a refusal counts as a miss.
    """

    __slots__ = ("floor", "high", "low", "measured", "phase", "predicted", "refusal", "run")

    def __init__(
        self, run: dict[str, Any], measured: float, predicted: float = 0.0, low: float = 0.0,
        high: float = 0.0, floor: float = 0.0, phase: str = "", refusal: str = "",
    ) -> None:  # fmt: skip
        self.run, self.measured, self.predicted = run, measured, predicted
        self.low, self.high, self.floor, self.phase, self.refusal = low, high, floor, phase, refusal

    @property
    def out_of_memory(self) -> bool:
        """Whether the run failed for want of memory."""
        return bool(self.run.get("out_of_memory"))

    @property
    def consistent(self) -> bool:
        """Whether the published peak could hold weights, gradients and states; to half a percent."""
        return self.out_of_memory or bool(self.refusal) or self.measured >= 0.995 * self.floor

    @property
    def error(self) -> float | None:
        """Relative error; None where nothing was measured or predicted. [-]"""
        if self.refusal or self.out_of_memory:
            return None
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool:
        """Whether the published peak lies in the predicted range, to the digits printed."""
        return not self.refusal and self.low - 0.051 <= self.measured <= self.high + 0.051

    @property
    def too_large(self) -> bool:
        """Of a run that ran out of memory: whether more is predicted than its card has."""
        return not self.refusal and self.predicted > self.measured

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        told = {name: self.run.get(name) for name in (
            "name", "program", "build", "model", "group", "quality", "metric", "published", "source",
        )}  # fmt: skip
        known = not self.refusal
        return told | {
            "out_of_memory": self.out_of_memory,
            "measured_gib": None if self.out_of_memory else self.measured,
            "card_gib": self.measured if self.out_of_memory and known else None,
            "predicted_gib": round(self.predicted, 4) if known else None,
            "range_gib": [round(self.low, 4), round(self.high, 4)] if known else None,
            "floor_gib": round(self.floor, 4) if known else None,
            "peak_phase": self.phase or None,
            "consistent": self.consistent,
            "error": self.error,
            "refusal": self.refusal or None,
        }


def compare_run(run: dict[str, Any], predict: Callable[..., Any]) -> TrainingRow:
    """Predict one run.

    Parameters
    ----------
    run : dict
        An entry of the measurements.
    predict : callable
        `llmcalc.train`.
    """
    failed = bool(run.get("out_of_memory"))
    asked = {"gpu": run["card"]} if run.get("card") else {}
    if not failed:
        asked["metric"] = METRICS[run["metric"]]
    measured = 0.0 if failed else float(run["measured"]["peak"])
    try:
        report = predict(run.get("config") or run["model"], allow_overlong=True, **asked, **run["options"])
    except LlmcalcError as error:
        return TrainingRow(run, measured, refusal=error.problem)
    if failed:
        measured = report.device.usable_bytes / GIB
    total, span, phase = report.total_bytes, report.range_bytes, report.peak.phase
    if "rank" in run:  # of several classes of ranks, the first or the last
        one = report.ranks[{"first": 0, "last": -1}[run["rank"]]]
        total, span, phase = one["total_bytes"], one["range_bytes"], one["phase"]
    low, high = (int(end) / GIB for end in span)
    floor = 0.0 if "rank" in run else floor_bytes(report) / GIB
    return TrainingRow(run, measured, int(total) / GIB, low, high, floor, phase)


def floor_bytes(report: Any) -> int:
    """What lies in memory together before the optimizer's step, temporaries left out. [B]"""
    moments = {moment.phase: moment.held for moment in report.timeline.moments}
    last, first = moments.get("step", {}), moments["forward"]
    names = ("weights", "master_weights", "optimizer")
    return int(sum(first.get(name, 0) for name in names) + last.get("gradients", 0))


def compare(runs: Iterable[dict[str, Any]], predict: Callable[..., Any]) -> list[TrainingRow]:
    """All runs of training."""
    return [compare_run(run, predict) for run in runs if run["engine"] == ENGINE]


class TrainingSummary:
    """Errors of one group in one quality.

    Attributes
    ----------
    rows, refused, inconsistent : int
        Runs with a peak, those that were refused, and those below their physical floor. [-]
    median, p90, worst : float or None
        Of the absolute errors, inconsistent runs left out; a refusal is an error without bound. [-]
    covered, width : float
        Share of the counted runs in the predicted range, and its median width against the prediction. [-]
    """

    __slots__ = (
        "covered", "group", "inconsistent", "median", "p90", "quality", "refused", "rows", "width", "worst",
    )  # fmt: skip

    def __init__(self, group: str, quality: int, rows: Sequence[TrainingRow]) -> None:
        self.group, self.quality, self.rows = group, quality, len(rows)
        counted = [row for row in rows if row.consistent]
        self.inconsistent = len(rows) - len(counted)
        self.refused = sum(bool(row.refusal) for row in counted)
        errors = [abs(row.error) if row.error is not None else _MISS for row in counted]
        self.median = _known(quantile, errors, 0.5)
        self.p90 = _known(quantile, errors, 0.9)
        self.worst = max((error for error in errors if error < _MISS), default=None)
        self.covered = sum(row.inside for row in counted) / len(counted) if counted else 0.0
        spans = [(row.high - row.low) / row.predicted for row in counted if row.predicted]
        self.width = quantile(spans, 0.5) if spans else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


def _known(
    of: Callable[[Sequence[float], float], float], errors: Sequence[float], share: float
) -> float | None:
    """A quantile; None where it falls on a refusal or there is nothing."""
    if not errors:
        return None
    value = of(errors, share)
    return value if value < _MISS / 1e3 else None


def summarise(rows: Sequence[TrainingRow]) -> list[TrainingSummary]:
    """Errors by group and quality, in this order, then of each quality over one GPU and over several."""
    found = []
    for quality in (1, 2):
        measured = [row for row in rows if not row.out_of_memory and row.run["quality"] == quality]
        for group in GROUPS:
            own = [row for row in measured if row.run["group"] == group]
            if own:
                found.append(TrainingSummary(group, quality, own))
        for name, groups in TOGETHER.items():
            some = [row for row in measured if row.run["group"] in groups]
            if some:
                found.append(TrainingSummary(name, quality, some))
    return found


__all__ = [
    "ENGINE", "GROUPS", "METRICS", "TARGETS", "TOGETHER", "TrainingRow", "TrainingSummary", "compare",
    "compare_run", "floor_bytes", "summarise",
]  # fmt: skip
