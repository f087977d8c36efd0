"""An answer that is no memory estimate: facts, tables, and the ways to show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmcalc._version import __version__
from llmcalc.report.call import Call


class Fact:
    """One line of an answer.

    Attributes
    ----------
    label, value : str
        What it is, and the figure with its unit.
    note : str
        How it comes about, its interval.
    grade : str
        ``exact``, ``derived``, ``calibrated`` or ``assumed``; empty for words.
    formula : str
        Name of the formula, where one gives it.
    inputs : dict
        Its arguments.
    source : str
        Ids of sources.
    origins : dict
        Where its arguments come from, where that is not the sheet's own.
    """

    __slots__ = ("formula", "grade", "inputs", "label", "note", "origins", "source", "value")

    def __init__(
        self, label: str, value: str, note: str = "", grade: str = "derived", formula: str = "",
        inputs: Mapping[str, Any] | None = None, source: str = "", origins: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.origins = dict(origins or {})
        self.label, self.value, self.note, self.grade = label, value, note, grade
        self.formula, self.inputs, self.source = formula, dict(inputs or {}), source


class Table:
    """Rows side by side: a title, headings, cells as text, columns that may be left out or break."""

    __slots__ = ("head", "rows", "spare", "title", "wrapped")

    def __init__(
        self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = (),
        wrapped: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.title, self.head, self.rows = title, list(head), [list(row) for row in rows]
        self.spare, self.wrapped = tuple(spare), tuple(wrapped)


class Sheet:
    """Facts and tables with their machine-readable twin.

    Attributes
    ----------
    command : str
        The command, which is the public function's name too.
    data : dict
        What JSON holds; its figures are attributes as well: ``sheet.tokens_per_param``.
    frame : list of dict
        Rows of `to_frame` and CSV.
    header : list of str
        The echo of what was understood.
    facts, tables : list
        What people read.
    explained : list of Fact or None
        What is explained, where that is more than the facts.
    warnings, hints, left_out : list of str
        What the reader should know, what to try, what is not in the table and why.
    origins : dict
        Where inputs of formulas come from.
    drawing : callable or None
        Draws on a figure.
    """

    def __init__(self, command: str, header: Sequence[str] = ()) -> None:
        self.command, self.header = command, list(header)
        self.data: dict[str, Any] = {}
        self.frame: list[dict[str, Any]] = []
        self.facts: list[Fact] = []
        self.explained: list[Fact] | None = None
        self.tables: list[Table] = []
        self.warnings: list[str] = []
        self.hints: list[str] = []
        self.left_out: list[str] = []
        self.origins: dict[str, str] = {}
        self.drawing: Callable[[Any], None] | None = None
        self.call = Call(command, {})
        self.version, self.catalog_date = __version__, ""
        self.book: Any = None
        self.model, self.scheme, self.device, self.verdict = {"name": ""}, {}, None, None  # type: ignore[var-annotated]

    def sign(self, call: Call, book: Any, kind: str = "laws") -> None:
        """Note how it can be made again, and from which catalog."""
        self.call, self.book, self.catalog_date = call, book, book.date(kind)

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(f"{self.__dict__.get('command', 'sheet')} has no {name!r}")

    def __getitem__(self, name: str) -> Any:
        return self.data[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.data})

    def __repr__(self) -> str:
        return f"<{'   '.join([self.command, *self.header])}>"

    def __str__(self) -> str:
        return self.to_text()

    def to_dict(self) -> dict[str, Any]:
        """The JSON object as plain Python values."""
        from llmcalc.render.data import SCHEMA, plain

        made = {"version": self.version, "catalog": self.catalog_date, "call": self.call.shown()}
        told = {"warnings": self.warnings, "hints": self.hints, "left_out": self.left_out}
        return {"schema": SCHEMA, "command": self.command, **plain(self.data), **told, "llmcalc": made}

    def to_json(self) -> str:
        """The JSON text."""
        from llmcalc.render.data import dumps

        return dumps(self.to_dict())

    def to_frame(self) -> Any:
        """A pandas DataFrame: a row a law."""
        import pandas as pd

        return pd.DataFrame(self.frame)

    def to_text(self, units: str = "gib", color: bool = False) -> str:
        """What the terminal shows; `units` and `color` are those of other answers and do nothing here."""
        from llmcalc.render.sheet import as_text

        return as_text(self)

    def to_markdown(self, units: str = "gib") -> str:
        """Markdown tables that end with how to reproduce them."""
        return self._document("markdown")

    def to_latex(self, units: str = "gib") -> str:
        """LaTeX tables."""
        return self._document("latex")

    def to_html(self, units: str = "gib") -> str:
        """HTML tables."""
        return self._document("html")

    def to_csv(self, units: str = "gib") -> str:
        """Comma-separated rows, a law each."""
        from llmcalc.render.sheet import as_csv

        return as_csv(self)

    def _document(self, kind: str) -> str:
        from llmcalc.render.sheet import as_document

        return as_document(self, kind)

    def explain(self, units: str = "gib") -> str:
        """Each line with its formula, values, where they came from, validity and source."""
        from llmcalc.render.sheet import as_explanation

        return as_explanation(self)

    def plot(self, file: str | None = None) -> Any:
        """A picture (needs the ``plot`` extra); saved where `file` is given."""
        from llmcalc.render.sheet import as_plot

        return as_plot(self, file)

    def _repr_html_(self) -> str:
        return self.to_html()
