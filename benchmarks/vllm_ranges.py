"""Compute the ranges of vLLM's items from the published logs, and see how they fare on sources left out.

    python benchmarks/vllm_ranges.py            prints them
    python benchmarks/vllm_ranges.py --check    exits 1 if those of the program differ

A residual is what was measured beyond the prediction, as a share of it, of a budget as a share of what vLLM
asks for; what the last printed digit (and, of weights, the slack of small tensors) explains is none. A range
goes from the 5th to the 95th percentile of a kind's residuals; of kinds with few logs, from the least to the
largest. Nothing in weights is fitted; peaks, graphs and what lies beside PyTorch have constants that were
fitted to logs, nearly all of one source, whose models then stand for sources: each is left out in turn, the
ranges are computed from the others, and the logs of the one left out are held against them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from math import ceil
from typing import Any

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.memory.engines.vllm.spreads import PARTS, SMALL, SPREADS
from llmcalc.units import GIB
from llmcalc.validation.measured import quantile
from llmcalc.validation.servers import ServerRow, ask, compare_start, part_of

HALF = 0.005
ENOUGH = 8
ONE_SOURCE = "llm-d-planner"


def kind_of(run: dict[str, Any], quantity: str) -> tuple[str, float]:
    """Which range the program takes for an item of a run, and what the range is a share of. [GiB]"""
    report = ask(run, llmcalc.vram, run.get("memory"))
    if quantity == "kv_budget":
        kind = str(report["activations"].inputs["range"])
        many = "one" if report.scenario["tp"] == 1 else "many"
        share = run["memory"] * report.scenario["gpu_memory_utilization"]
        return kind if kind in SPREADS[quantity] else many, share
    item = part_of(report["runtime"], "non_torch") if quantity == "non_torch" else report[quantity]
    return str(item.inputs["range"]), 0.0


def residual(row: ServerRow, share: float) -> float:
    """What was measured beyond the prediction and the printed digit, as a share of one or the other. [-]"""
    gap = row.measured - row.predicted
    if row.quantity == "weights" and 0 < gap <= SMALL / GIB + HALF:
        return 0.0
    return max(abs(gap) - HALF, 0.0) * (1 if gap > 0 else -1) / (share or row.predicted)


def source_of(run: dict[str, Any]) -> str:
    """What is left out together: a page, or one model of the page that has most logs."""
    return f"{run['source']} {run['model']}" if ONE_SOURCE in run["source"] else str(run["source"])


def span(residuals: list[float]) -> tuple[int, int]:
    """Below and above, in parts of PARTS, rounded outward to two digits."""

    def rounded(value: float) -> int:
        parts = max(value, 0.0) * PARTS
        step = 10 ** max(len(str(int(parts))) - 2, 0)
        return ceil(parts / step - 1e-9) * step

    rest = 0.05 if len(residuals) >= ENOUGH else 0.0
    return rounded(-quantile(residuals, rest)), rounded(quantile(residuals, 1 - rest))


def main(arguments: list[str]) -> int:
    """Print, or with ``--check`` compare."""
    found: dict[str, dict[str, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    for run in Catalog.shipped().entries("measurements"):
        if run["engine"] == "vllm":
            for row in compare_start(run, llmcalc.vram):
                if row.quantity in SPREADS and not row.refusal:
                    kind, share = kind_of(run, row.quantity)
                    found[row.quantity][kind].append((residual(row, share), source_of(run)))
    stale = False
    for quantity, kinds in SPREADS.items():
        covered = rows = 0
        for kind, now in kinds.items():
            own = found[quantity][kind]
            low, high = span([value for value, _ in own]) if own else now
            stale = stale or (low, high) != now
            sources = {source for _, source in own}
            kept = 0
            for left in sources:
                rest = [value for value, source in own if source != left] or [0.0]
                below, above = span(rest)
                kept += sum(-below <= value * PARTS <= above for value, source in own if source == left)
            covered, rows = covered + kept, rows + len(own)
            print(f'{quantity:12} {kind:8} {len(own):3} logs of {len(sources):2}: ({low}, {high}), in the '
                  f"program {now}; left out {kept}/{len(own)}")  # fmt: skip
        print(f"{quantity:12} covered when left out: {covered / max(rows, 1):.0%}")
    return int(stale and arguments == ["--check"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
