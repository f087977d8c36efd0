"""What share of an accelerator's peak a run reaches where nobody said: fitted on published runs.

The runs stand in data/trainings.yaml; tests/test_cost.py fits the numbers below anew, and predicts each run
from the others. Hours of a model card that cover more than one pass are left out, and so are runs of which
the tokens, the hours or the parameters are an estimate.
"""

from __future__ import annotations

from typing import Any

from llmcalc.compute.cost import default_utilization

BASES = {"Ampere": 0.347, "Hopper": 0.261}
"""MFU over all hours of 10 B parameters, by the accelerator's generation. [-]"""

OTHERS = 0.261
"""For accelerators without enough runs: that of Hopper and TPU v4 together. [-]"""

LOW, HIGH = 0.70, 1.50
"""Of the expected share: nine in ten runs lie between. [-]"""

GOODPUT, GOODPUT_LOW, GOODPUT_HIGH = 0.88, 0.65, 0.93
"""MFU over all hours for each of the MFU of a step, where both are published: PaLM 0.66, SmolLM3 0.89,
TinyLlama 0.91, Llama 3.1 405B 0.85; and the range. [-]"""

FP8_SHARE = 0.6
"""MFU of fp8 runs against fp8's peak, for each of that of bf16 (assumed): steps get 1.2 times as fast."""

LOW_PRECISION = ("fp8", "fp4", "int8")

SOURCE = "fitted on 25 published runs"
RUNS = {"Ampere": 17, "Hopper": 7}
"""How many of them ran on that generation; one more on TPU v4."""


class Utilization:
    """MFU over all hours of a run, its range, and where it comes from.

    Attributes
    ----------
    run, low, high : float
        Over all hours. [-]
    step : float
        Of a step: the run's over its goodput. [-]
    grade, note : str
        ``calibrated`` on runs of that generation, else ``assumed``.
    inputs : dict
        Of `default_utilization`, where the run's is that and nothing else.
    """

    __slots__ = ("grade", "high", "inputs", "low", "note", "run", "step")

    def __init__(self, run: float, low: float, high: float, step: float, grade: str, note: str) -> None:
        self.run, self.low, self.high, self.step = run, low, high, step
        self.grade, self.note = grade, note
        self.inputs: dict[str, float] = {}


def usual(entry: dict[str, Any], parameters: float, precision: str, goodput: float | None) -> Utilization:
    """What runs of that size usually reach on an accelerator.

    Parameters
    ----------
    entry : dict
        Of the catalog of GPUs.
    parameters : float
        That one token uses. [-]
    precision : str
        Of the peak.
    goodput : float or None
        Share of the hours that steps take, where it is known. [-]
    """
    family = str(entry.get("architecture", ""))
    base = BASES.get(family, OTHERS)
    size = min(max(parameters, 7e7), 1e11)
    run = float(default_utilization(base, size))
    known = family in BASES and precision in ("bf16", "fp16")
    if precision in LOW_PRECISION:
        run *= FP8_SHARE
    step = min(run / GOODPUT, 1.0)
    if goodput is not None:
        run = step * goodput
    note = f"{SOURCE}, {RUNS.get(family)} on {family} (data/trainings.yaml)"
    if family not in BASES:
        note = f"as on Hopper; no published runs on {entry['name']}"
    elif not known:
        share = f"{FP8_SHARE:g} of that of bf16" if precision in LOW_PRECISION else "as bf16"
        note = f"{share} on {family}; no published runs in {precision}"
    found = Utilization(
        run, run * LOW, min(run * HIGH, 0.95), step, "calibrated" if known else "assumed", note
    )
    if precision not in LOW_PRECISION and goodput is None:
        found.inputs = {"base": base, "parameters": size}
    return found
