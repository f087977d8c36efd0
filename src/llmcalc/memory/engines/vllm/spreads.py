"""How far below and above each item may lie: 5th to 95th percentile of residuals of published logs.

`benchmarks/vllm_ranges.py` computes the figures from data/measurements and says how they fare on sources that
were left out. What the digits of a log hide counts as no residual.
"""

from __future__ import annotations

from llmcalc.engine_options.vllm_era import Era
from llmcalc.units import MIB

PARTS = 10_000
"""Spreads are in parts of this. [-]"""

SMALL = 6 * MIB
"""The least by which weights may exceed what is expected: ends of segments of small tensors. [B]"""

SPREADS: dict[str, dict[str, tuple[int, int]]] = {
    "weights": {"plain": (0, 9), "eight": (0, 9), "packed": (140, 200), "towers": (58, 210)},
    "activations": {
        "old": (400, 0),
        "towers": (320, 360),
        "experts": (52, 850),
        "forward": (230, 0),
        "sampler": (9, 24),
    },
    "cuda_graphs": {"old": (5900, 38000), "early": (4300, 11000), "full": (2200, 2900)},
    "non_torch": {"old": (5800, 17000), "one": (170, 8300), "many": (120, 130)},
    "kv_budget": {
        "old": (190, 62),
        "towers": (73, 12),
        "experts": (130, 15),
        "forward": (29, 3),
        "one": (3, 1),
        "many": (7, 5),
    },
}
"""Below and above, by item and kind; of a budget as a share of what vLLM asks for. [parts of PARTS]"""


def ends(item: str, kind: str, amounts: list[int], least: int = 0) -> tuple[list[int], list[int]]:
    """Low and high of some amounts; the high is beyond by `least` or more. [B]"""
    low, high = SPREADS[item][kind]
    return [n - n * low // PARTS for n in amounts], [n + max(n * high // PARTS, least) for n in amounts]


def graph_kind(era: Era) -> str:
    """CUDA graphs of decoding alone, of pieces, or of both."""
    if not era.is_v1:
        return "old"
    return "full" if era.version >= (0, 15) else "early"
