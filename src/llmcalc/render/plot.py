"""Pictures with matplotlib (the ``plot`` extra): stacked items against what the GPU has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from llmcalc.errors import InputError
from llmcalc.formula import is_array
from llmcalc.render.training import draw
from llmcalc.render.words import device_name, label, row_name, visible
from llmcalc.units import GIB

PALETTE = (
    "#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974",
    "#64b5cd",
)  # fmt: skip
SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")


def as_plot(reports: Sequence[Any], file: str | None = None) -> Any:
    """Draw the reports; return the figure, and save it where `file` is given.

    Raises
    ------
    InputError
        If matplotlib is missing, or the file's kind is unknown.
    """
    figure_class = matplotlib_figure(file)
    report = reports[0]
    swept = is_array(report.total_bytes)
    stepped = report.timeline is not None and len(reports) == 1 and not swept
    figure = picture(figure_class)(
        figsize=(8, 4.5 if swept or stepped else 1.8 + 0.5 * len(reports)), layout="constrained"
    )
    axes = figure.add_subplot()
    if stepped:
        draw(axes, report, PALETTE)
    elif swept:
        _sweep(axes, report)
    else:
        _bars(axes, reports)
    axes.set_title(
        "   ".join(_phrases(report, stepped, len(reports) == 1)),
        fontsize=10,
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)
    return saved(figure, file)


def saved(figure: Any, file: str | None) -> Any:
    """The picture, written to a file if one is named.

    Raises
    ------
    InputError
        If it can't be written there.
    """
    if file is not None:
        try:
            figure.savefig(file, dpi=150)
        except OSError as error:
            raise InputError(f"{file} can't be written: {error.strerror}.", "Check the folder.") from None
        os.stat(file)
    return figure


def _phrases(report: Any, stepped: bool, alone: bool) -> list[str]:
    """The title: of a training step no more than a line holds."""
    phrases = [*report.header, *(report.placement if alone else [])]
    while stepped and len("   ".join(phrases)) > TITLE:
        phrases.pop()
    return phrases


TITLE = 84
"""Letters of a title. [-]"""


def matplotlib_figure(file: str | None) -> Any:
    """Matplotlib's figure, the kind of file checked first.

    Raises
    ------
    InputError
        If matplotlib is missing, or the file's kind is unknown.
    """
    if file is not None and not file.lower().endswith(SUFFIXES):
        raise InputError(
            f"--plot {file!r} has no known picture suffix.", f"Use one of {', '.join(SUFFIXES)}."
        )
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "Plots need matplotlib, which is not installed.", "pip install 'llmcalc-planner[plot]'"
        ) from None
    return Figure


def picture(figure_class: Any) -> Any:
    """A figure that a notebook shows without a plotting backend."""

    class Picture(figure_class):  # type: ignore[misc]
        def _repr_png_(self) -> bytes:
            import io

            stream = io.BytesIO()
            self.savefig(stream, format="png", dpi=100)
            return stream.getvalue()

    return Picture


def _bars(axes: Any, reports: Sequence[Any]) -> None:
    """One stacked bar a report, with a mark at what its GPU has."""
    names = [row_name(r) for r in reports]
    items = visible(reports[0])
    left = [0.0] * len(reports)
    for number, item in enumerate(items):
        widths = [r[item.name].bytes_at_peak / GIB for r in reports]
        color = PALETTE[number % len(PALETTE)]
        axes.barh(
            range(len(reports)), widths, left=left, color=color, label=label(reports[0], item), height=0.6
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for number, report in enumerate(reports):
        if report.device is not None:
            usable = report.device.usable_bytes / GIB
            axes.plot(
                [usable, usable],
                [number - 0.42, number + 0.42],
                color="black",
                linewidth=2,
                label="usable" if not number else None,
            )
        end = left[number] if report.device is None else max(left[number], report.device.usable_bytes / GIB)
        axes.text(end, number, f" {left[number]:,.2f} GiB", va="center", fontsize=9)
    axes.set_yticks(range(len(reports)), names)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("GiB per GPU at the peak")
    axes.legend(
        fontsize=8,
        frameon=False,
        ncols=4,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.35 if len(reports) < 3 else -0.18),
    )


ALONG = {
    "context": "tokens of one sequence",
    "sequences": "sequences",
    "micro_batch": "sequences of a micro-batch",
    "lora_r": "rank of the adapters",
}
"""What a picture may run along, and its label."""


def _sweep(axes: Any, report: Any) -> None:
    """Stacked areas over what was given as an array: the context, sequences, a micro-batch, a rank."""
    import numpy as np

    name = next(name for name in ALONG if is_array(report.scenario.get(name)))
    along = np.ravel(report.scenario[name])
    order = np.argsort(along, kind="stable")
    items = [item for item in visible(report) if item.where == "device" or report.command != "train"]
    layers = [np.broadcast_to(np.ravel(item.bytes_at_peak), along.shape)[order] / GIB for item in items]
    axes.stackplot(along[order], layers, labels=[label(report, item) for item in items], colors=PALETTE)
    if report.device is not None:
        axes.axhline(
            report.device.usable_bytes / GIB,
            color="black",
            linewidth=1.5,
            label=f"usable on {device_name(report)}",
        )
    axes.set_xlabel(ALONG[name])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(0, along.max())
    axes.set_ylabel("GiB per GPU at the peak")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
