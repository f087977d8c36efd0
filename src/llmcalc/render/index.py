"""A picture of vector stores: memory by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.render.plot import PALETTE
from llmcalc.units import GIB

OTHERS, GREY = "all else", "0.6"
"""Parts too small to be seen."""


def draw_parts(figure: Any, rows: Sequence[dict[str, Any]]) -> None:
    """A bar of memory and one of disk for each index, by part."""
    names = _large(rows)
    colors = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}
    both = figure.subplots(1, 2, sharey=True)
    for axes, key, title in zip(both, ("memory_bytes", "disk_bytes"), ("memory", "disk"), strict=True):
        for place, row in enumerate(rows):
            start = 0.0
            widths = dict.fromkeys(names, 0.0)
            for item in row["items"]:
                name = item["name"] if item["name"] in colors else OTHERS
                widths[name] = widths.get(name, 0.0) + item[key] / GIB
            for name, width in widths.items():
                axes.barh(place, width, left=start, color=colors.get(name, GREY))
                start += width
        axes.set_yticks(range(len(rows)), [row["factory"] or row["index"] for row in rows], fontsize=8)
        axes.set_xlabel("GiB")
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    both[0].invert_yaxis()
    for name in (*names, OTHERS):
        both[1].barh(0, 0, color=colors.get(name, GREY), label=name)
    both[1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _large(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Parts that can be seen in some bar, in the order of the parts; as many as there are colours."""
    most = max(max(row["total_bytes"], row["disk_bytes"]) for row in rows)
    sizes: dict[str, float] = {}
    for row in rows:
        for item in row["items"]:
            found = max(item["memory_bytes"], item["disk_bytes"])
            sizes[item["name"]] = max(sizes.get(item["name"], 0), found)
    kept = sorted((name for name in sizes if sizes[name] >= most / 200), key=lambda name: -sizes[name])
    chosen = set(kept[: len(PALETTE) - 1])
    return [name for name in sizes if name in chosen]
