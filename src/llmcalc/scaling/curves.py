"""Lines of a law to be drawn: what it gives along compute, parameters, tokens or loss."""

from __future__ import annotations

from typing import Any

from llmcalc.scaling import forms
from llmcalc.scaling.rates import batch_of_loss, expert_rate, product_law
from llmcalc.scaling.terms import power_law

Curve = tuple[str, str, Any, Any, Any]
"""Label of x, label of y, both arrays, and the range fitted along x."""

X = {
    "compute": ("training compute, FLOP", 1e18, 1e26),
    "params": ("parameters", 1e7, 1e12),
    "tokens": ("training tokens", 1e9, 1e13),
}


def curves_of(law: Any) -> list[Curve]:
    """At most three lines of a law."""
    import numpy as np

    c = law.coefficients
    reach = law.entry.get("range", {})
    found: list[Curve] = []

    def add(along: str, y_label: str, function: Any) -> None:
        label, low, high = X[along]
        x = np.geomspace(low, high, 200)
        found.append((label, y_label, x, function(x), reach.get(along)))

    if "optimum" in law.answers:
        add("compute", "parameters at the optimum", lambda C: law.optimum(C)[0])
        add("compute", "tokens per parameter", lambda C: law.optimum(C)[1] / law.optimum(C)[0])
    if "loss" in law.answers:
        found += _losses(law, np, reach)
    if law.form == "step-law":
        own = (c["k_lr"], c["p_N"], c["p_D"])
        add("params", "learning rate, 20 tokens per parameter", lambda N: product_law(N, 20 * N, *own))
        add("tokens", "batch, tokens", lambda D: power_law(D, c["k_B"], c["p_B"]))
    elif law.form == "joint-moe":
        add("params", "learning rate, dense", lambda N: expert_rate(N, 1, c["l_0"], c["l_N"], c["l_E"]))
    elif law.form == "power-batch":
        add("params", "critical batch, tokens", lambda N: 512 * power_law(N / 1e6, c["k"], c["p"]))
    elif law.form == "power-data":
        add("params", "tokens", lambda N: power_law(N, c["k"], c["p"]))
    elif law.form == "critical-batch":
        L = np.linspace(1.5, 5, 200)
        found.append(
            (
                "loss, nats per token",
                "batch, tokens",
                L,
                batch_of_loss(L, c["B_star"], 1 / c["alpha_B"]),
                None,
            )
        )
    return found[:3]


def _losses(law: Any, np: Any, reach: dict[str, Any]) -> list[Curve]:
    """Loss along what the law takes."""
    only = forms.ONLY.get(law.form)
    along = {"parameters": "params", "tokens": "tokens", "compute": "compute"}.get(only or "", "compute")
    if law.form == "routed":
        along = "params"
    label, low, high = X[along]
    x = np.geomspace(low, high, 200)
    if only is not None or law.form == "routed":
        y = law.loss(**{along: x})
    elif "optimum" in law.answers:
        N, D = law.optimum(x)
        label, y = f"{label}, at the optimum", law.loss(N, D)
    else:
        N = (x / 120.0) ** 0.5
        label, y = f"{label}, 20 tokens per parameter", law.loss(N, 20 * N)
    return [(label, "loss, nats per token", x, y, reach.get(along))]
