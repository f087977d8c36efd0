"""Answers that are not bytes of memory: figures with units, and grids of them.

A `Figures` holds what a command found; its ``to_...`` methods hand it to renderers that are imported when
they are called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmcalc._version import __version__
from llmcalc.report.call import Call

USUAL = ("A100 80GB SXM", "H100 SXM", "H200 SXM", "B200")
"""GPUs of a roofline where none are named."""


class Figure:
    """One number of an answer.

    Attributes
    ----------
    name, label : str
        Its name in JSON, and how it is called in a table.
    value, low, high : number, ndarray or None
        Expected, and its range.
    unit : str
        What it counts: ``FLOP``, ``FLOP/token``, ``GPU-h``, ``d``, ``USD`` ...
    grade, formula, inputs, source, note : str, str, dict, str, str
        As of an `llmcalc.estimate.Item`.
    section : str
        The heading it stands under.
    """

    __slots__ = (
        "formula", "grade", "high", "inputs", "label", "low", "name", "note", "section", "source", "unit",
        "value",
    )  # fmt: skip

    def __init__(
        self, name: str, value: Any, unit: str, *, label: str = "", low: Any = None, high: Any = None,
        grade: str = "exact", formula: str = "", inputs: Mapping[str, Any] | None = None, source: str = "",
        note: str = "", section: str = "",
    ) -> None:  # fmt: skip
        self.name, self.value, self.unit, self.label = name, value, unit, label or name.replace("_", " ")
        self.low, self.high = value if low is None else low, value if high is None else high
        self.grade, self.formula, self.inputs = grade, formula, dict(inputs or {})
        self.source, self.note, self.section = source, note, section

    def __repr__(self) -> str:
        return f"<{self.name}: {self.value} {self.unit}, {self.grade}>"


class Grid:
    """A table of figures: columns with their units, and rows of plain values.

    Attributes
    ----------
    name, title : str
        Its name in JSON, and its heading.
    columns : list of (str, str, str)
        Key, heading and unit of each; the unit is empty for words.
    rows : list of dict
        By key.
    below : list of str
        What stands below it.
    """

    __slots__ = ("below", "columns", "name", "rows", "title")

    def __init__(
        self, name: str, title: str, columns: Sequence[tuple[str, str, str]],
        rows: Sequence[dict[str, Any]], below: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.name, self.title, self.columns = name, title, list(columns)
        self.rows, self.below = list(rows), list(below)


class Figures:
    """An answer in figures and grids.

    Attributes
    ----------
    figures : list of Figure
        Lines; ``answer["gpu_hours"]`` finds one by name.
    grids : list of Grid
        Tables, shown in between by the section they are named after.
    model, scenario : dict
        What was asked about, every input as resolved.
    warnings, hints : list of str
        What a reader should know, and what to try.
    picture : dict
        What a plot draws.
    """

    verdict = None
    device = None
    scheme: Mapping[str, Any] = {}
    left_out: Sequence[str] = ()

    def __init__(self, command: str) -> None:
        self.command = command
        self.figures: list[Figure] = []
        self.grids: list[Grid] = []
        self.header: list[str] = []
        self.model: dict[str, Any] = {}
        self.scenario: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.hints: list[str] = []
        self.picture: dict[str, Any] = {}
        self.call = Call(command, {})
        self.book: Any = None
        self.catalog_date = ""
        self.version = __version__

    def add(self, name: str, value: Any, unit: str, **more: Any) -> Figure:
        """Add a figure, and return it."""
        made = Figure(name, value, unit, **more)
        self.figures.append(made)
        return made

    def __getitem__(self, name: str) -> Figure:
        for one in self.figures:
            if one.name == name:
                return one
        raise KeyError(f"{name!r}; there are {', '.join(one.name for one in self.figures)}")

    def __contains__(self, name: object) -> bool:
        return any(one.name == name for one in self.figures)

    def __iter__(self) -> Iterator[Figure]:
        return iter(self.figures)

    def grid(self, name: str) -> Grid:
        """A table by its name."""
        return next(one for one in self.grids if one.name == name)

    @property
    def names(self) -> list[str]:
        """Names of the figures."""
        return [one.name for one in self.figures]

    def sign(self, call: Call, book: Any) -> None:
        """Note how it can be made again, and from which catalog."""
        self.call, self.book, self.catalog_date = call, book, book.date("gpus")

    # -- the ways to show it -----------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in JSON."""
        from llmcalc.render.figures import as_dict

        return as_dict(self)

    def to_json(self) -> str:
        """JSON text."""
        from llmcalc.render.data import dumps

        return dumps(self.to_dict())

    def to_text(self, units: str = "gib", color: bool = False) -> str:
        """What the terminal shows."""
        from llmcalc.render.figures import as_text

        return as_text(self, units)

    def to_markdown(self, units: str = "gib") -> str:
        """Markdown tables that end with how to reproduce them."""
        return self._table("markdown", units)

    def to_latex(self, units: str = "gib") -> str:
        """LaTeX tables."""
        return self._table("latex", units)

    def to_html(self, units: str = "gib") -> str:
        """HTML tables."""
        return self._table("html", units)

    def to_csv(self, units: str = "bytes") -> str:
        """Comma-separated rows: the figures, then each grid."""
        return self._table("csv", units)

    def _table(self, kind: str, units: str) -> str:
        from llmcalc.render.figure_tables import as_tables

        return as_tables(self, kind, units)

    def to_frame(self) -> Any:
        """A pandas DataFrame of the figures; with array inputs a row an element."""
        from llmcalc.render.figure_tables import as_frame

        return as_frame(self)

    def explain(self, units: str = "gib") -> str:
        """Each figure with its formula, values, validity and source."""
        from llmcalc.render.figure_tables import as_explanation

        return as_explanation(self, units)

    def plot(self, file: str | None = None) -> Any:
        """A picture (needs the ``plot`` extra); saved where `file` is given."""
        from llmcalc.render.figure_plots import as_plot

        if self.picture.get("points") and not self.picture["gpus"] and self.book is not None:
            from llmcalc.compute.peaks import accelerators

            found = accelerators(list(USUAL), self.book, self.picture["precision"])
            self.picture["gpus"] = [(g.name, g.peak, g.bandwidth) for g in found if g.peak and g.bandwidth]
        return as_plot(self, file)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<{self.command} {self.model.get('name')}: {len(self.figures)} figures>"
