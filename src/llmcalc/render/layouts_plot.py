"""A picture of layouts: memory of a rank against the bubble, a colour for each number of tensor ranks."""

from __future__ import annotations

from typing import Any

from llmcalc.render.plot import PALETTE, matplotlib_figure, saved
from llmcalc.units import GIB

BEYOND = 1.6
"""Layouts that need more than so many cards are not drawn. [-]"""


def as_plot(table: Any, file: str | None = None) -> Any:
    """Draw layouts; return the figure, and save it where `file` is given.

    Raises
    ------
    InputError
        If matplotlib is missing, or the file's kind is unknown.
    """
    figure = matplotlib_figure(file)(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    usable = table.device.usable_bytes / GIB
    rows = [row for row in table.found if row.process / GIB <= BEYOND * usable] or table.shown
    degrees = sorted({row.mesh.tp for row in rows})
    best = table.shown[0]
    widest = max(100 * row.mesh.bubble for row in rows)
    for number, tp in enumerate(degrees):
        colour = PALETTE[number % len(PALETTE)]
        own = [row for row in rows if row.mesh.tp == tp]
        for fits, marker in ((True, "o"), (False, "x")):
            some = [row for row in own if (row.verdict == "fits") == fits]
            axes.scatter(
                [_aside(row, number, len(degrees), widest) for row in some],
                [row.process / GIB for row in some],
                s=16 if fits else 10, marker=marker, color=colour, alpha=0.8 if fits else 0.3,
                linewidths=0 if fits else 0.8,
            )  # fmt: skip
        axes.scatter([], [], s=22, color=colour, linewidths=0, label=f"tp {tp}")
    axes.scatter([], [], s=16, marker="x", color="0.5", linewidths=0.8, label="does not surely fit")
    x = _aside(best, degrees.index(best.mesh.tp), len(degrees), widest)
    axes.scatter(
        [x], [best.process / GIB], s=110, facecolors="none", edgecolors="black", linewidths=1.2,
        label=f"best: {best.mesh.told}",
    )  # fmt: skip
    axes.axhline(usable, color="black", linewidth=1, linestyle="--")
    axes.text(
        1, usable, f"usable on {table.device.name} ", va="bottom", ha="right", fontsize=8,
        transform=axes.get_yaxis_transform(),
    )  # fmt: skip
    axes.set_xlabel("bubble: waiting over working time of a stage [%]")
    axes.set_ylabel("GiB of the worst rank at the peak")
    axes.set_ylim(bottom=0)
    _mark(axes, widest)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    words = [table.header[0], f"{table.gpus:,} x {table.device.name}", f"{len(table.found):,} layouts"]
    axes.set_title("   ".join(words), fontsize=10, loc="left")
    return saved(figure, file)


def _aside(row: Any, number: int, degrees: int, widest: float) -> float:
    """The bubble's place, a step aside for each number of tensor ranks, which would hide each other."""
    step = number * (widest or 1.0) ** 0.5 / 120
    return float((100 * row.mesh.bubble) ** 0.5 + step)


TICKS = (0, 0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Bubbles that are marked. [%]"""


def _mark(axes: Any, widest: float) -> None:
    """A scale of roots, for most layouts have small bubbles."""
    least = widest / 400
    ticks: list[float] = []
    for tick in TICKS:
        if tick <= 1.2 * widest and (not ticks or tick**0.5 - ticks[-1] ** 0.5 > least**0.5):
            ticks.append(tick)
    axes.set_xticks([tick**0.5 for tick in ticks], [f"{tick:g}" for tick in ticks])
