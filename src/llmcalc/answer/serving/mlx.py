"""``mlx_lm.server``; with a quantized cache ``mlx_lm.generate``, for the server has no such option."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.mlx import method_of
from llmcalc.answer.serving import Plan


def words(plan: Plan) -> list[Any]:
    """The words that start mlx-lm."""
    scheme, key = plan.scenario.scheme, plan.scenario.key
    if plan.is_stated("quant") and scheme is not None and method_of(scheme) == "mlx":
        plan.notes.append(
            f"mlx_lm.convert writes {scheme.name} of {plan.model}: put that folder in the id's place."
        )
    if key.elements > 1:
        bits = str(key.name).removeprefix("mlx-").partition("bit")[0]
        plan.notes.append("The server keeps its cache in 16 bit: this is mlx-lm's command for one prompt.")
        found: list[Any] = ["mlx_lm.generate", "--model", plan.model]
        found += ["--kv-bits", bits, "--kv-group-size", 64, "--quantized-kv-start", 0]
        return [*found, *(["--max-tokens", plan.scenario.output] if plan.scenario.output else [])]
    many = int(plan.scenario.sequences)
    found = ["mlx_lm.server", "--model", plan.model]
    found += ["--decode-concurrency", many, "--prompt-concurrency", many]
    return [*found, *(["--max-tokens", plan.scenario.output] if plan.scenario.output else [])]
