"""What each law says of a run's learning rate and batch."""

from __future__ import annotations

import math
from typing import Any

from llmcalc.answer.scaling.asked import Asked
from llmcalc.scaling.forms import PF_DAY
from llmcalc.scaling.laws import DEVIATIONS, Law
from llmcalc.scaling.numeric import spread
from llmcalc.scaling.rates import batch_of_loss, expert_rate, product_law
from llmcalc.scaling.terms import power_law

KINDS = ("learning-rate", "batch", "critical-batch")


class Advice:
    """What one law says of one quantity.

    Attributes
    ----------
    law : Law
        The law.
    kind : str
        ``learning-rate``, ``batch`` or ``critical-batch``.
    value : float
        Peak learning rate, or tokens of a batch. [-] or [tokens]
    interval : tuple or None
        80 %. [as value]
    by, note : str
        What it depends on, and what to know.
    formula, inputs : str, dict
        For explanations.
    """

    __slots__ = ("by", "formula", "inputs", "interval", "kind", "law", "note", "outside", "value")

    def __init__(
        self, law: Law, kind: str, value: float, by: str, formula: str, inputs: dict[str, Any]
    ) -> None:
        self.law, self.kind, self.value, self.by = law, kind, value, by
        self.formula, self.inputs = formula, inputs
        self.interval: tuple[float, float] | None = None
        self.note = ""
        self.outside: list[str] = []

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "law": self.law.name, "kind": self.kind, "value": self.value, "interval": self.interval,
            "unit": "-" if self.kind == "learning-rate" else "tokens", "by": self.by, "note": self.note,
            "outside_range": self.outside, "status": self.law.entry["status"],
        }  # fmt: skip


class Run:
    """The run that laws are asked about: parameters by convention, tokens, compute, loss, experts."""

    __slots__ = ("asked", "compute", "loss", "tokens")

    def __init__(self, asked: Asked, compute: float, tokens: float, loss: float) -> None:
        self.asked, self.compute, self.tokens, self.loss = asked, compute, tokens, loss

    def params(self, law: Law) -> float:
        """As a law counts them. [params]"""
        assert self.asked.counts is not None
        if law.form == "joint-moe":  # its learning rate leaves embeddings out, unlike its loss
            return self.asked.counts.by.get("active-non-embedding", self.asked.counts.by["active"])
        return self.asked.counts.of(law)


def advise(law: Law, run: Run) -> list[Advice]:
    """Everything that a law says of a run's hyperparameters."""
    c, N = law.coefficients, run.params(law)
    found: list[Advice] = []

    def add(kind: str, value: Any, by: str, formula: str, inputs: dict[str, Any]) -> Advice:
        found.append(Advice(law, kind, float(value), by, formula, inputs))
        return found[-1]

    def power(kind: str, x: float, k: str, p: str, by: str, unit: float = 1) -> Advice:
        inputs = {"x": x, "coefficient": c[k], "exponent": c[p]}
        return add(kind, unit * power_law(**inputs), by, "power_law", inputs)

    if law.form == "step-law":
        inputs = {"N": N, "D": run.tokens, "coefficient": c["k_lr"], "p_N": c["p_N"], "p_D": c["p_D"]}
        rate = add("learning-rate", product_law(**inputs), "N, D", "product_law", inputs)
        rate.interval = _interval(rate.value, law, "covariance", [1.0, math.log(N), math.log(run.tokens)])
        batch = power("batch", run.tokens, "k_B", "p_B", "D")
        batch.interval = _interval(batch.value, law, "batch_covariance", [1.0, math.log(run.tokens)])
    elif law.form == "flops-per-token":
        power("learning-rate", run.compute, "k_lr", "p_lr", "C")
        power("batch", run.compute, "k_B", "p_B", "C")
    elif law.form == "power-allocation":
        for one in (
            power("learning-rate", N, "k_lr", "p_lr", "N"),
            power("batch", N, "k_B", "p_B", "N"),
        ):
            one.note = "seen in a table of others alone"
    elif law.form == "joint-moe":
        inputs = {"N": N, "E": run.asked.experts or 1.0, **{k: c[k] for k in ("l_0", "l_N", "l_E")}}
        add("learning-rate", expert_rate(**inputs), "N, E", "expert_rate", inputs)
    elif law.form == "ratio":
        rate = add("learning-rate", c["lr"], "-", "", {})
        rate.note = "under its muP parametrization: not for others"
        inputs = {"L": run.loss, "coefficient": c["k_B"], "exponent": c["p_B"]}
        add("batch", batch_of_loss(**inputs), "L", "batch_of_loss", inputs)
    elif law.form == "critical-batch":
        inputs = {"L": run.loss, "coefficient": c["B_star"], "exponent": 1 / c["alpha_B"]}
        add("critical-batch", batch_of_loss(**inputs), "L", "batch_of_loss", inputs)
    elif law.form == "pf-day-allocation":
        power("critical-batch", run.compute / PF_DAY, "B_e", "p_B", "C").note = "C taken as C_min"
    elif law.form == "power-batch":
        power("critical-batch", N / 1e6, "k", "p", "N", 512).note = "20 % more steps than linear scaling"
    outside = law.outside(compute=run.compute, params=N, tokens=run.tokens)
    for one in found:
        one.outside = outside
    return found


def _interval(value: float, law: Law, key: str, slopes: list[float]) -> tuple[float, float] | None:
    """80 % around a value whose logarithm is linear in what was fitted."""
    own = law.entry.get(key)
    if own is None or not law.own:
        return None
    wide = DEVIATIONS * spread(
        lambda v: sum(a * b for a, b in zip(v, slopes, strict=True)), [0.0] * len(slopes), own["values"]
    )
    return value * math.exp(-wide), value * math.exp(wide)
