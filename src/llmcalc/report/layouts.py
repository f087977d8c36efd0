"""What a search for layouts answers: one table over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmcalc._version import __version__
from llmcalc.report import Report, _Shown
from llmcalc.report.call import Call

if TYPE_CHECKING:
    from llmcalc.hardware import Device


class LayoutTable(_Shown):
    """Layouts of a model on a number of GPUs, the best first.

    Attributes
    ----------
    found : list
        Every layout that was estimated, in order.
    top : int
        How many a table shows. [-]
    refine : callable or None
        Gives a quick row the figures that `train` tells.
    refused : int
        Layouts that the model or the framework does not allow. [-]
    searched : dict
        Values that were tried, by keyword.
    model, scenario : dict
        What was asked, the layout apart.
    device : Device
        The GPU.
    gpus : int
        How many of it. [-]
    header, warnings : list of str
        The heading, and what the reader should know.
    """

    command = "layouts"

    def __init__(self, found: Sequence[Any], device: Device, top: int) -> None:
        self.found = sorted(found, key=lambda row: row.order)
        self.device, self.top, self.gpus = device, top, device.count or 1
        self.refused = 0
        self.refine: Callable[[Any], None] | None = None
        self.searched: dict[str, list[Any]] = {}
        self.model: dict[str, Any] = {}
        self.scenario: dict[str, Any] = {}
        self.header: list[str] = []
        self.warnings: list[str] = []
        self.hints: list[str] = []
        self.left_out: list[str] = []
        self.scheme: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        self.call = Call("layouts", {})
        self.book: Any = None
        self.catalog_date, self.version = "", __version__

    def sign(self, call: Call, book: Any) -> None:
        """Note how it can be made again, and from which catalog."""
        self.call, self.book, self.catalog_date = call, book, book.date("models")

    @property
    def fitting(self) -> list[Any]:
        """Layouts that fit, surely or perhaps."""
        return [row for row in self.found if row.verdict != "does_not_fit"]

    @property
    def shown(self) -> list[Any]:
        """The rows of a table, with the figures that `train` tells."""
        chosen = self._chosen()
        while self.refine is not None and any(row.quick for row in chosen):
            for row in chosen:
                if row.quick:
                    self.refine(row)
            self.found.sort(key=lambda row: row.order)
            chosen = self._chosen()
        return chosen

    def _chosen(self) -> list[Any]:
        """The rows of a table: of each set of degrees the best, and where room is left others.

        Where none fits, those that need least.
        """
        rows = self.fitting or sorted(self.found, key=lambda row: int(row.process))
        first: dict[Any, Any] = {}
        for row in rows:
            first.setdefault(row.degrees, row)
        chosen = list(first.values())[: self.top]
        known = set(map(id, chosen))
        chosen += [row for row in rows if id(row) not in known][: self.top - len(chosen)]
        place = {id(row): number for number, row in enumerate(rows)}
        return sorted(chosen, key=lambda row: place[id(row)])

    def number(self, verdict: str) -> int:
        """How many layouts have that verdict. [-]"""
        return sum(row.verdict == verdict for row in self.found)

    @property
    def verdict(self) -> str:
        """``fits`` if any surely does, ``too_close`` if some may, else ``does_not_fit``."""
        return str(self.shown[0].verdict)

    def keywords(self, row: Any) -> dict[str, Any]:
        """All that `llmcalc.train` takes for a row."""
        own: dict[str, Any] = row.keywords
        for key in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp"):
            if self.given.get(key) is not None:
                own[key] = getattr(row.mesh, key)
        return {**self.given, "global_batch": None, **own}

    def train_call(self, row: Any) -> Call:
        """The call of `llmcalc.train` for a row."""
        return Call("train", self.keywords(row))

    def _reports(self) -> Sequence[Report]:
        return []

    def to_dict(self) -> dict[str, Any]:
        """The contract's JSON as plain Python values: every layout that fits."""
        from llmcalc.render.layouts import as_dict

        return as_dict(self)

    def to_frame(self) -> Any:
        """A pandas DataFrame: a row for each layout that was estimated."""
        import pandas as pd

        from llmcalc.render.layouts import row_as_dict

        return pd.DataFrame([row_as_dict(self, row) for row in self.found]).drop(columns="keywords")

    def to_text(self, units: str = "gib", color: bool = False) -> str:
        """What the terminal shows."""
        from llmcalc.render.layouts import as_text

        return as_text(self, units, color)

    def _table(self, kind: str, units: str) -> str:
        from llmcalc.render.layouts import as_table

        return as_table(self, kind, units)

    def explain(self, units: str = "gib") -> str:
        """What each column is, and how layouts are sorted."""
        from llmcalc.render.layouts import as_explanation

        return as_explanation(self)

    def plot(self, file: str | None = None) -> Any:
        """Memory of a rank against the bubble (needs the ``plot`` extra); saved where `file` is given."""
        from llmcalc.render.layouts_plot import as_plot

        return as_plot(self, file)

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        return f"<{len(self.found)} layouts of {self.model.get('name')}, {self.number('fits')} fit>"
