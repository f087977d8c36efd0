"""Pictures of scaling laws: IsoFLOP profiles, lines of equal loss, a law over its range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.render.plot import PALETTE

BUDGETS = (0.1, 1.0, 10.0)
"""Budgets drawn beside the one asked, as its multiples. [-]"""


def draw_plan(figure: Any, plans: Sequence[Any]) -> None:
    """Loss along budgets, and lines of equal loss, of the first law; the optima of all on the right."""
    import numpy as np

    first = plans[0]
    law, mixture = first.law, first.mixture
    left, right = figure.subplots(1, 2)
    for number, times in enumerate(BUDGETS):
        C = first.compute * times
        best, tokens = law.optimum(C, **mixture)
        N = np.geomspace(best / 12, best * 12, 200)
        left.plot(N, law.loss(N, C / (6.0 * N), **mixture), color=PALETTE[number], label=f"{C:.3g} FLOP")
        left.plot(best, law.loss(best, tokens, **mixture), "o", color=PALETTE[number])
    if first.given and first.loss is not None:
        left.plot(first.params, first.loss, "x", color="black", label="this run")
    left.set_xscale("log")
    left.set_xlabel("parameters")
    left.set_ylabel("loss, nats per token")
    left.set_title(f"IsoFLOP profiles, {law.name}", fontsize=10, loc="left")
    left.legend(fontsize=8, frameon=False)
    _iso_loss(right, plans)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)


def _iso_loss(axes: Any, plans: Sequence[Any]) -> None:
    import numpy as np

    first = plans[0]
    N = np.geomspace(first.params / 30, first.params * 30, 120)
    C = np.geomspace(first.compute / 300, first.compute * 300, 120)
    grid_C, grid_N = np.meshgrid(C, N)
    loss = first.law.loss(grid_N, grid_C / (6.0 * grid_N), **first.mixture)
    budgets = np.geomspace(C[0], C[-1], 11)
    levels = sorted(map(float, first.law.loss(*first.law.optimum(budgets, **first.mixture), **first.mixture)))
    lines = axes.contour(grid_C, grid_N, loss, levels=levels, colors="#8c8c8c", linewidths=0.7)
    axes.clabel(lines, fontsize=7, fmt="%.2f")
    for number, plan in enumerate(plans[:8]):
        axes.plot(C, plan.law.optimum(C, **plan.mixture)[0], color=PALETTE[number], label=plan.law.name)
    axes.plot(first.compute, first.params, "x" if first.given else "o", color="black")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(N[0], N[-1])
    axes.set_xlabel("training compute, FLOP")
    axes.set_ylabel("parameters")
    axes.set_title("Equal loss, and each law's optimum", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)


def draw_advice(figure: Any, found: Sequence[Any], run: Any) -> None:
    """Learning rates on the left and batches on the right, a point a law with its interval."""
    left, right = figure.subplots(1, 2)
    for axes, kinds, label in (
        (left, ("learning-rate",), "peak learning rate"),
        (right, ("batch", "critical-batch"), "batch, tokens"),
    ):
        own = [one for one in found if one.kind in kinds]
        for place, one in enumerate(own):
            color = PALETTE[1 if one.kind == "critical-batch" else 0]
            if one.interval is not None:
                axes.plot(one.interval, [place, place], color=color, linewidth=2)
            axes.plot(one.value, place, "o", color=color)
        names = [f"{one.law.name}{' (critical)' if one.kind == 'critical-batch' else ''}" for one in own]
        axes.set_yticks(range(len(own)), names, fontsize=8)
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    left.set_title(f"{run.compute:.3g} FLOP", fontsize=10, loc="left")


def plot_law(law: Any, file: str | None = None) -> Any:
    """One law over its range and beyond: what it gives by compute, size, tokens or loss.

    Raises
    ------
    InputError
        For a law that gives no numbers, or nothing along a line.
    """
    from llmcalc.errors import InputError
    from llmcalc.render.plot import matplotlib_figure, picture, saved

    if law.is_silent:
        law.speak("loss")
    curves = law.curves()
    if not curves:
        raise InputError(f"{law.name} has no line to draw.", "Leave --plot out.")
    figure = picture(matplotlib_figure(file))(figsize=(4.5 * len(curves) + 1, 4), layout="constrained")
    for axes, (x_label, y_label, x, y, reach) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True
    ):
        axes.plot(x, y, color=PALETTE[0])
        if reach is not None:
            low, high = (x[0] if reach[0] is None else reach[0]), (x[-1] if reach[1] is None else reach[1])
            axes.axvspan(low, high, color=PALETTE[2], alpha=0.15, label="fitted")
            axes.legend(fontsize=8, frameon=False)
        axes.set_xscale("log")
        if "loss" not in y_label:
            axes.set_yscale("log")
        if max(y) <= min(y) * 1.000001:
            axes.set_ylim(min(y) / 2, max(y) * 2)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_xlim(x[0], x[-1])
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{law.name}: {law.entry['title']}", fontsize=10, x=0.02, ha="left")
    return saved(figure, file)


def draw_budgets(figure: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Parameters and tokens per parameter by compute, a line a law."""
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(row["law"] for row in rows))
    for number, name in enumerate(names):
        own = sorted((row for row in rows if row["law"] == name), key=lambda row: row["compute"])
        style = {"color": PALETTE[number % len(PALETTE)], "marker": "o", "markersize": 3, "label": name}
        left.plot([row["compute"] for row in own], [row["params"] for row in own], **style)
        right.plot([row["compute"] for row in own], [row["tokens_per_param"] for row in own], **style)
    for axes, label in ((left, "parameters"), (right, "tokens per parameter")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("training compute, FLOP")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(fontsize=8, frameon=False)
