"""A sweep: one estimate over a million context lengths against one numpy multiplication of that length.

    python benchmarks/arrays.py

Fails above 60 times, or if any element differs from the scalar estimate.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import llmcalc

BOUND = 60.0
LENGTH = 1_000_000
MODELS = ("llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "qwen3-next-80b")


def best(function: object, runs: int = 7) -> float:
    """Least CPU of some runs. [ms]"""
    least = float("inf")
    for _ in range(runs):
        start = time.process_time()
        function()  # type: ignore[operator]
        least = min(least, time.process_time() - start)
    return least * 1000


def main() -> int:
    contexts = np.random.default_rng(0).integers(1, 131_073, LENGTH)
    other = contexts.copy()
    unit = best(lambda: contexts * other, 25)
    print(f"one multiplication of {LENGTH:,}: {unit:.2f} ms")
    worst = 0.0
    for name in MODELS:
        for keywords in ({}, {"gpu": "h100-80gb"}):
            model = llmcalc.model(name)
            took = best(lambda: llmcalc.vram(model, context=contexts, **keywords))  # noqa: B023
            worst = max(worst, took / unit)
            report = llmcalc.vram(model, context=contexts, **keywords)
            for index in range(0, LENGTH, LENGTH // 50):
                single = llmcalc.vram(model, context=int(contexts[index]), **keywords)
                assert single.total_bytes == report.total_bytes[index], (name, index)
            print(f"{took:7.1f} ms  {took / unit:5.1f} x  {name} {keywords or ''}")
    print(f"bound {BOUND:g} x: {'held' if worst <= BOUND else 'BROKEN'} ({worst:.1f} x)")
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
