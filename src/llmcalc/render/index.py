"""A picture of vector stores: memory by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.render.plot import PALETTE
from llmcalc.units import GIB


def draw_parts(figure: Any, rows: Sequence[dict[str, Any]]) -> None:
    """A bar of memory and one of disk for each index, by part."""
    names = list(dict.fromkeys(item["name"] for row in rows for item in row["items"]))
    colors = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}
    for axes, key, title in zip(
        figure.subplots(1, 2, sharey=True), ("memory_bytes", "disk_bytes"), ("memory", "disk"), strict=True
    ):
        for place, row in enumerate(rows):
            start = 0.0
            for item in row["items"]:
                width = item[key] / GIB
                axes.barh(place, width, left=start, color=colors[item["name"]])
                start += width
        axes.set_yticks(range(len(rows)), [row["factory"] or row["index"] for row in rows], fontsize=8)
        axes.set_xlabel("GiB")
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    for name in names:
        axes.barh(0, 0, color=colors[name], label=name)
    axes.legend(fontsize=8, frameon=False)
