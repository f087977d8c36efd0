"""How far below and above a load may lie: 5th to 95th percentile of residuals of published logs.

`benchmarks/sglang_ranges.py` computes the figures from data/measurements and says how they fare on sources
that were left out. What the digits of a log hide counts as no residual. Nothing in the load itself is fitted.
"""

from __future__ import annotations

from llmcalc.engine_options.sglang_era import SglangEra

PARTS = 10_000
"""Spreads are in parts of this. [-]"""

SPREADS: dict[str, tuple[int, int]] = {"old": (130, 0), "now": (13, 59)}
"""Below and above, by kind of release. [parts of PARTS]"""

FEW = ("old",)
"""Kinds with fewer than eight logs: the extremes of these, which is assumed to be all."""


def load_kind(era: SglangEra) -> str:
    """Releases before 0.2, of which two logs are known, and those since."""
    return "old" if era.version < (0, 2, 0) else "now"
