"""Pictures of figures: a roofline with the phases of a model, and days over the number of GPUs."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError
from llmcalc.render.plot import PALETTE, matplotlib_figure, picture, saved

MARKS = "osD^v"


def as_plot(answer: Any, file: str | None = None) -> Any:
    """Draw it; return the figure, and save it where `file` is given.

    Raises
    ------
    InputError
        If matplotlib is missing, the file's kind is unknown, or there is nothing to draw.
    """
    figure_class = matplotlib_figure(file)
    if not answer.picture:
        remedy = "Name a model and a single --context" if answer.command == "flops" else "Add --gpu"
        raise InputError("There is nothing to draw here.", f"{remedy}, or leave --plot out.")
    figure = picture(figure_class)(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    if "points" in answer.picture:
        _roofline(axes, answer)
    else:
        _days(axes, answer)
    axes.spines[["top", "right"]].set_visible(False)
    return saved(figure, file)


def _days(axes: Any, answer: Any) -> None:
    """Days over the number of GPUs, as if more of them lost nothing, with the range."""
    low, hours, high = answer.picture["hours"]
    count = answer.picture["count"] or max(1, round(hours / 24 / 30))
    gpus = [count * 10 ** (step / 20) for step in range(-20, 21)]
    axes.fill_between(gpus, [low / n / 24 for n in gpus], [high / n / 24 for n in gpus], color=PALETTE[0],
                      alpha=0.2, label="range")  # fmt: skip
    axes.plot(gpus, [hours / n / 24 for n in gpus], color=PALETTE[0], label="expected")
    axes.plot([count], [hours / count / 24], "o", color=PALETTE[3])
    axes.annotate(f"{count:,} GPUs, {hours / count / 24:,.3g} days", (count, hours / count / 24), fontsize=9,
                  xytext=(8, 8), textcoords="offset points")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.3g}")
    axes.set_xlabel(f"GPUs ({answer.picture['gpu']})")
    axes.set_ylabel("days")
    axes.set_title("   ".join(answer.header[:2]), fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)


def _roofline(axes: Any, answer: Any) -> None:
    """What each GPU can do at an intensity, and where the phases lie."""
    points, gpus = answer.picture["points"], answer.picture["gpus"]
    least = min(1.0, *(x for _, x in points)) / 2
    most = max(2000.0, *(x for _, x in points), *(peak / wide for _, peak, wide in gpus)) * 3
    for number, (name, peak, bandwidth) in enumerate(gpus):
        color, ridge = PALETTE[number % len(PALETTE)], peak / bandwidth
        axes.plot([least, ridge, most], [least * bandwidth / 1e12, peak / 1e12, peak / 1e12], color=color,
                  label=f"{name}: {peak / 1e12:,.0f} TFLOP/s, {bandwidth / 1e12:.3g} TB/s")  # fmt: skip
        for place, (_, x) in enumerate(points):
            axes.plot([x], [min(peak, x * bandwidth) / 1e12], MARKS[place % len(MARKS)], color=color,
                      markersize=6)  # fmt: skip
    top = max(peak for _, peak, _ in gpus) / 1e12
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, most)
    axes.set_ylim(min(least * wide for _, _, wide in gpus) / 1e12, top * 6)
    for place, (name, x) in enumerate(sorted(points, key=lambda point: point[1])):
        axes.axvline(x, color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.text(x, top * (4.2 if place % 2 else 2.4), name, fontsize=9, ha="center", va="center",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
    axes.set_xlabel("operations for each byte moved (FLOP/B)")
    axes.set_ylabel(f"TFLOP/s of one GPU at most, {answer.picture['precision']}")
    axes.set_title("   ".join([answer.header[0], *answer.header[3:]]), fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
