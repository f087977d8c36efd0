"""Compute the ranges of SGLang's loads from the published logs, and see how they fare on sources left out.

    python benchmarks/sglang_ranges.py            prints them
    python benchmarks/sglang_ranges.py --check    exits 1 if those of the program differ

A residual is what was measured beyond the prediction, as a share of it; what the last printed digit explains
is none, but of kinds with few logs, which have no residuals to spare. A range goes from the 5th to the 95th
percentile of a kind's residuals by nearest rank, which up to 20 logs is from the least to the largest. Cards
that are not NVIDIA's count among the covered or not, but make no range. The budget has no range of its own:
it is what the load and the free memory leave.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

from vllm_ranges import ENOUGH, HALF, span

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.memory.engines.sglang.spreads import FEW, PARTS, SPREADS
from llmcalc.validation.measured import quantile
from llmcalc.validation.servers import ServerRow, ask, compare_start

FOREIGN = ("MI300X",)
"""Cards whose loads make no range."""


def is_foreign(run: dict[str, Any]) -> bool:
    """Whether a log is of another vendor's card."""
    return any(name in str(run.get("devices")) for name in FOREIGN)


def residual(row: ServerRow, kind: str) -> float:
    """What was measured beyond the prediction and the printed digit, as a share of it. [-]"""
    gap = row.measured - row.predicted
    return max(abs(gap) - (0.0 if kind in FEW else HALF), 0.0) * (1 if gap > 0 else -1) / row.predicted


def ranked(residuals: list[float]) -> tuple[int, int]:
    """Below and above by nearest rank, in parts of PARTS."""
    ordered = sorted(residuals)
    cut = (len(ordered) - 1) // 20
    return span([ordered[cut], ordered[-1 - cut]])


def left_out(own: list[tuple[float, str]]) -> int:
    """How many residuals lie in the range of the other sources."""
    kept = 0
    for source in {source for _, source in own}:
        below, above = ranked([value for value, other in own if other != source] or [0.0])
        kept += sum(-below <= value * PARTS <= above for value, other in own if other == source)
    return kept


def main(arguments: list[str]) -> int:
    """Print, or with ``--check`` compare."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    rows: dict[str, list[ServerRow]] = defaultdict(list)
    for run in Catalog.shipped().entries("measurements"):
        for row in compare_start(run, llmcalc.vram) if run["engine"] == "sglang" else ():
            rows[row.quantity].append(row)
            if row.quantity == "weights" and not row.refusal and not is_foreign(run):
                kind = str(ask(run, llmcalc.vram, run.get("memory"))["weights"].inputs["range"])
                found[kind].append((residual(row, kind), str(run["source"])))
    stale = False
    for kind, now in SPREADS.items():
        own = found[kind]
        low, high = ranked([value for value, _ in own]) if own else now
        stale = stale or (low, high) != now or (len(own) < ENOUGH) != (kind in FEW)
        print(f"weights {kind:4} {len(own):2} logs: ({low}, {high}), in the program {now}; left out "
              f"{left_out(own)}/{len(own)}{'; few' if len(own) < ENOUGH else ''}")  # fmt: skip
    for quantity in ("weights", "kv_budget"):
        own_rows = rows[quantity]
        inside = sum(row.inside for row in own_rows)
        error = quantile([abs(row.error or 0.0) for row in own_rows], 0.5)
        width = quantile([(row.high - row.low) / row.scale for row in own_rows], 0.5)
        print(f"{quantity:9} {inside}/{len(own_rows)} in range; median width {width / error:.2f} times the "
              f"median error")  # fmt: skip
    return int(stale and arguments == ["--check"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
