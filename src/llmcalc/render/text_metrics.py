"""A picture of text metrics: bits per token, character, byte and word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcalc.render.plot import PALETTE

MARKS = ((8.0, "a byte as it is"), (1.225, "GPT-2 small, the Pile"), (0.718, "GPT-3, the Pile"))
"""Bits per byte to compare with: L. Gao et al., "The Pile", 2020, Table 2."""


def draw_bits(figure: Any, bits: Mapping[str, float]) -> None:
    """Bits per unit as bars; bits per byte beside published ones."""
    left, right = figure.subplots(1, 2)
    units = [unit for unit in ("token", "character", "byte", "word") if unit in bits]
    left.bar(range(len(units)), [bits[unit] for unit in units], color=PALETTE[0])
    left.set_xticks(range(len(units)), units)
    left.set_ylabel("bits")
    left.set_title("Bits per unit", fontsize=10, loc="left")
    marks = [*([(bits["byte"], "this text")] if "byte" in bits else []), *MARKS]
    right.barh(range(len(marks)), [value for value, _ in marks],
               color=[PALETTE[1] if name == "this text" else PALETTE[7] for _, name in marks])  # fmt: skip
    right.set_yticks(range(len(marks)), [name for _, name in marks], fontsize=8)
    right.invert_yaxis()
    right.set_xlabel("bits per byte")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
