"""Pictures of a fitted law: the fit, residuals, IsoFLOP profiles, the bootstrap's cloud, optima."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from llmcalc.errors import InputError
from llmcalc.render.plot import PALETTE, matplotlib_figure, picture, saved

GREY = "#666666"


def panels(fit: Any) -> list[tuple[str, Any]]:
    """What can be drawn of a fit: title and function, in order."""
    if fit.lines is not None:
        found = [("Optima over compute", optima)]
        if fit.lines.profiles:
            found.insert(0, ("IsoFLOP profiles", profiles))
    else:
        found = [("Predicted against measured", agreement), ("Residuals over compute", residuals)]
        if fit.fitted.allocates and fit.form in ("chinchilla", "kaplan") and len(fit.data) >= 8:
            found.append(("IsoFLOP profiles", contours))
        elif fit.form == "power-law":
            found.append(("The law", curve))
    if fit.samples and len(cloud_names(fit)) == 2:
        found.append(("Bootstrap", cloud))
    return found


def as_plot(fit: Any, file: str | None = None) -> Any:
    """Draw all panels on one sheet; return the figure, and save it where `file` is given.

    Raises
    ------
    InputError
        If matplotlib is missing, or the file's kind is unknown or can't be written.
    """
    figure_class = matplotlib_figure(file)
    found = panels(fit)
    wide = min(len(found), 3 if len(found) == 3 else 2)
    tall = -(-len(found) // wide)
    figure = picture(figure_class)(figsize=(5.6 * wide, 0.5 + 4.2 * tall), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06, hspace=0.04)
    for place, (title, draw) in enumerate(found, 1):
        axes = figure.add_subplot(tall, wide, place)
        draw(axes, fit)
        axes.set_title(title, fontsize=11, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    name = fit.title if fit.approach in (None, 3) else f"Approach {fit.approach}"
    figure.suptitle(f"{name}: {fit.estimator}, {len(fit.data):,} rows", fontsize=11)
    return saved(figure, file)


def as_pictures(fit: Any) -> list[tuple[str, str]]:
    """Each panel as a PNG in base64, with its title.

    Raises
    ------
    InputError
        If matplotlib is missing.
    """
    import base64
    import io

    figure_class = matplotlib_figure(None)
    made = []
    for title, draw in panels(fit):
        figure = figure_class(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, fit)
        axes.spines[["top", "right"]].set_visible(False)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110)
        made.append((title, base64.b64encode(stream.getvalue()).decode("ascii")))
    return made


def _colours(axes: Any, flops: Any, values: tuple[Any, Any], **more: Any) -> None:
    """Points coloured by compute, with a bar."""
    from matplotlib.colors import LogNorm

    spread = flops.max() / flops.min() > 1.5
    norm = LogNorm(flops.min(), flops.max()) if spread else None
    points = axes.scatter(
        *values, c=flops if spread else PALETTE[0], norm=norm, cmap="viridis" if spread else None,
        s=16, alpha=0.8, linewidths=0, **more,
    )  # fmt: skip
    if spread:
        bar = axes.figure.colorbar(points, ax=axes, pad=0.02, aspect=30)
        bar.set_label("compute [FLOP]", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)


def agreement(axes: Any, fit: Any) -> None:
    """Predicted against measured losses."""
    predicted = fit.fitted.loss(fit.params, fit.data)[0]
    _colours(axes, fit.data.flops, (fit.data.losses, predicted))
    ends = [min(fit.data.losses.min(), predicted.min()), max(fit.data.losses.max(), predicted.max())]
    pad = 0.03 * (ends[1] - ends[0])
    ends = [ends[0] - pad, ends[1] + pad]
    axes.plot(ends, ends, color=GREY, linewidth=0.9, zorder=0)
    axes.set(xlim=ends, ylim=ends, xlabel="measured loss", ylabel="predicted loss")


def residuals(axes: Any, fit: Any) -> None:
    """Residuals over compute, outliers ringed."""
    log = fit.settings["residual"] == "log"
    values = 100 * fit.residuals if log else fit.residuals
    flops = fit.data.flops
    axes.scatter(flops, values, s=16, alpha=0.75, linewidths=0, color=PALETTE[0])
    axes.axhline(0, color=GREY, linewidth=0.9)
    far = {one["place"] for one in fit.outliers}
    ringed = [place for place, name in enumerate(fit.data.places) if name in far]
    if ringed:
        axes.scatter(
            flops[ringed], values[ringed], s=60, facecolors="none", edgecolors=PALETTE[3], label="outliers"
        )
        axes.legend(fontsize=9, frameon=False)
    if fit.holdout is not None:
        axes.axvspan(fit.holdout.above, flops.max() * 1.15, color=PALETTE[1], alpha=0.12, linewidth=0)
        axes.annotate("held out", (fit.holdout.above, 0.02), xycoords=("data", "axes fraction"), fontsize=8,
                      color=GREY, xytext=(3, 0), textcoords="offset points")  # fmt: skip
    axes.set(xscale="log", xlabel="compute [FLOP]", ylabel="residual [%]" if log else "residual")
    if flops.max() / flops.min() < 30:
        _plain(axes.xaxis)


def _plain(axis: Any) -> None:
    """Ticks of a narrow logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:.0e}".replace("e+", "e"))
    axis.set_minor_formatter(NullFormatter())


NEAR = 0.12
"""Logarithm of compute within which runs are drawn at a budget. [-]"""


def _budgets(fit: Any) -> list[float]:
    """Budgets of profiles, five at most: where most runs lie, in five equal parts of the data's span."""
    logs = np.log(fit.data.flops)
    ends = np.linspace(logs.min(), logs.max(), 6)
    found = []
    for low, high in itertools.pairwise(ends):
        own = logs[(logs >= low) & (logs <= high)]
        if len(own):
            near = np.abs(logs[None] - own[:, None]) < NEAR
            found.append(float(np.exp(np.median(logs[near[int(near.sum(axis=1).argmax())]]))))
    return [one for place, one in enumerate(found) if not place or one / found[place - 1] > 1.3]


def contours(axes: Any, fit: Any) -> None:
    """The law along constant compute, with the runs near each budget and the optimum."""
    rows = fit.data
    for place, budget in enumerate(_budgets(fit)):
        near = np.abs(np.log(rows.flops / budget)) < NEAR
        color = PALETTE[place % len(PALETTE)]
        own = rows.params[near]
        size = np.geomspace(own.min() / 1.6, own.max() * 1.6, 200)
        line = rows.take(np.zeros(len(size), dtype=int))
        line.params, line.tokens, line.compute = size, budget / rows.factor / size, None
        axes.plot(
            size, fit.fitted.loss(fit.params, line)[0], color=color, linewidth=1.4, label=f"{budget:.1e}"
        )
        axes.scatter(rows.params[near], rows.losses[near], s=14, color=color, alpha=0.7, linewidths=0)
        try:
            best = fit.optimum(budget)
        except InputError:
            continue
        if size[0] <= best.params <= size[-1]:
            axes.scatter([best.params], [best.loss], marker="v", s=46, color=color, edgecolors="black",
                         linewidths=0.7, zorder=4)  # fmt: skip
    low, high = np.quantile(rows.losses, [0, 0.98])
    axes.set(xscale="log", xlabel="parameters", ylabel="loss")
    axes.set_ylim(low - 0.04 * (high - low), high + 0.12 * (high - low))
    axes.legend(title="FLOP", fontsize=8, title_fontsize=8, frameon=False, loc="upper right")


def curve(axes: Any, fit: Any) -> None:
    """A power law with its runs and its offset."""
    values = fit.fitted.of(fit.data)
    line = np.geomspace(values.min() / 2, values.max() * 30, 200)
    loss = fit.params["E"] + fit.params["A"] * line ** -fit.params["alpha"]
    if fit.samples:
        all_of = (
            fit.samples["E"][:, None] + fit.samples["A"][:, None] * line ** -fit.samples["alpha"][:, None]
        )
        low, high = np.nanpercentile(all_of, [2.5, 97.5], axis=0)
        axes.fill_between(line, low, high, color=PALETTE[0], alpha=0.18, linewidth=0, label="95 %")
    axes.plot(line, loss, color=PALETTE[0], linewidth=1.4, label="law")
    axes.scatter(values, fit.data.losses, s=16, color=PALETTE[1], linewidths=0, alpha=0.8, label="runs")
    axes.axhline(fit.params["E"], color=GREY, linewidth=0.9, linestyle="--", label="E")
    units = {"compute": "compute [FLOP]", "tokens": "tokens", "params": "parameters"}
    axes.set(xscale="log", xlabel=units[fit.fitted.along], ylabel="loss")
    axes.legend(fontsize=8, frameon=False)


def profiles(axes: Any, fit: Any) -> None:
    """Approach 2: rows of each budget, its parabola and its vertex."""
    rows = fit.data
    from matplotlib import colormaps

    shades = colormaps["viridis"](np.linspace(0, 0.92, len(fit.lines.profiles)))
    for color, (group, parabola) in zip(shades, fit.lines.profiles, strict=True):
        logs = np.log(rows.params[group])
        x = np.linspace(logs.min() - 0.1, logs.max() + 0.1, 100)
        shift = x - logs.mean()
        axes.plot(
            np.exp(x), parabola[0] + parabola[1] * shift + parabola[2] * shift**2, color=color, linewidth=1.3
        )
        budget = np.exp(np.log(rows.flops[group]).mean())
        axes.scatter(
            rows.params[group], rows.losses[group], s=15, color=color, linewidths=0, label=f"{budget:.1e}"
        )
    axes.scatter(
        fit.lines.params, fit.lines.losses, marker="v", s=46, color="white", edgecolors="black", zorder=4
    )
    axes.set(xscale="log", xlabel="parameters", ylabel="loss")
    axes.legend(title="FLOP", fontsize=8, title_fontsize=8, frameon=False, ncols=1, loc="upper left",
                bbox_to_anchor=(1.0, 1.0))  # fmt: skip


def optima(axes: Any, fit: Any) -> None:
    """Best parameters and tokens over compute, with the lines."""
    compute = fit.lines.compute
    line = np.geomspace(compute.min() / 2, compute.max() * 30, 100)
    kinds = (("parameters", fit.lines.params, "k_N", "a"), ("tokens", fit.lines.tokens, "k_D", "b"))
    for place, (name, values, factor, exponent) in enumerate(kinds):
        color = PALETTE[place]
        if fit.samples:
            many = fit.samples[factor][:, None] * line ** fit.samples[exponent][:, None]
            low, high = np.nanpercentile(many, [2.5, 97.5], axis=0)
            axes.fill_between(line, low, high, color=color, alpha=0.18, linewidth=0)
        power = fit.params[exponent]
        axes.plot(line, fit.params[factor] * line**power, color=color, linewidth=1.4,
                  label=f"{name} ~ C^{power:.3f}")  # fmt: skip
        axes.scatter(compute, values, s=5 if fit.approach == 1 else 18, color=color, linewidths=0, zorder=3)
    axes.set(xscale="log", yscale="log", xlabel="compute [FLOP]", ylabel="parameters, tokens")
    axes.legend(fontsize=9, frameon=False, loc="upper left")


def cloud_names(fit: Any) -> list[str]:
    """The two figures of the cloud."""
    if fit.lines is not None:
        return ["a", "tokens/param"]
    pairs = [["alpha", "beta"], ["alpha_N", "alpha_D"], ["alpha", "E"], ["beta", "E"]]
    if fit.settings["tied"]:
        pairs = pairs[2:]
    free = [name for name in fit.samples if name not in fit.settings["fixed"]]
    return next((pair for pair in pairs if all(name in free for name in pair)), [])


def cloud(axes: Any, fit: Any) -> None:
    """Two figures of each resample, and of the fit."""
    names = cloud_names(fit)

    def told(values: Any, name: str) -> Any:
        if name != "tokens/param":
            return values[name]
        budget = fit.largest
        return values["k_D"] * budget ** values["b"] / (values["k_N"] * budget ** values["a"])

    x, y = (told(fit.samples, name) for name in names)
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    axes.scatter(x, y, s=9, alpha=0.35, color=PALETTE[0], linewidths=0, label="resamples")
    at = [[told(fit.params, name)] for name in names]
    axes.scatter(*at, marker="D", s=42, color=PALETTE[3], label="fit", edgecolors="white", zorder=4)
    for values, limit in ((x, axes.set_xlim), (y, axes.set_ylim)):
        low, high = np.percentile(values, [0.5, 99.5])
        pad = 0.15 * (high - low) + 1e-12
        limit(low - pad, high + pad)
    second = f"tokens/param at {fit.largest:.1e} FLOP" if fit.lines is not None else names[1]
    axes.set(xlabel=names[0], ylabel=second)
    axes.legend(fontsize=9, frameon=False)
