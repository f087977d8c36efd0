"""What would make a model fit a card: the best format, and how long a context."""

from __future__ import annotations

import copy
from typing import Any

from llmcalc.answer.vram import model_report
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.model.inventory import Inventory
from llmcalc.report import Report
from llmcalc.scenario import Scenario

BY_QUALITY = {
    "llama.cpp": ("gguf-bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "iq3_xxs", "q2_k"),
    "": ("none", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k"),
}
BY_QUALITY["ollama"] = BY_QUALITY["llama.cpp"]
BY_QUALITY["mlx"] = ("none", "mlx-8bit", "mlx-6bit", "mlx-4bit", "mlx-3bit")
for _server in ("vllm", "sglang", "tensorrt-llm"):
    BY_QUALITY[_server] = ("none", "fp8", "w8a8", "awq")
BY_QUALITY["transformers"] = ("none", "int8", "nf4")
"""Formats from the finest to the coarsest that people still use, by engine."""


def advise(report: Report, inventory: Inventory, scenario: Scenario, device: Device, book: Catalog) -> None:
    """Add to a verdict what would change it: the finest format that fits, the longest context.

    Parameters
    ----------
    report : Report
        The estimate with its verdict.
    inventory, scenario, device, book
        What it was made of.
    """
    if inventory.is_opaque or is_array(report.total_bytes):
        return
    best = finest(inventory, scenario, device, book)
    used = report.scenario.get("quant") or "none"
    fits = report.verdict == "fits"
    if best is None:
        report.told.advice.append(
            "No common format of it fits with this context: a smaller model, a shorter context or more GPUs."
            if not fits
            else ""
        )
    elif best[0] != used and (not fits or best[1] > report["weights"].bytes):
        word = "also fits" if fits else "fits"
        report.told.advice.append(f"finest format that {word}: --quant {best[0]}")
    capacity = report.capacity
    if not fits and capacity is not None and capacity.max_context:
        report.told.advice.append(f"as it is, up to --context {capacity.max_context}")
    report.told.advice = [line for line in report.told.advice if line]


def finest(inventory: Inventory, scenario: Scenario, device: Device, book: Catalog) -> tuple[str, int] | None:
    """The finest usual format that surely fits, and the bytes of its weights on a GPU."""
    from llmcalc.precision.named import find_scheme

    for name in BY_QUALITY.get(scenario.engine, BY_QUALITY[""]):
        own = copy.copy(scenario)
        own.bits, own.quick = None, True
        own.stated = (scenario.stated - {"bits"}) | {"quant"}
        own.options = copy.copy(scenario.options)
        if hasattr(own.options, "fit"):
            own.options.fit = False  # all of it on the GPUs
        try:
            own.scheme = find_scheme(name, book)
            report = model_report(inventory, own, device, book, {})
        except LlmcalcError:
            continue
        if report.verdict == "fits":
            weights: Any = report["weights"].bytes
            return name, int(weights)
    return None
