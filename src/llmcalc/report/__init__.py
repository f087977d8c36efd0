"""What a command answers: plain data, and the ways to show it.

A `Report` holds items, peak, device and verdict; its ``to_...`` methods hand it to one renderer
each, imported when called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmcalc._version import __version__
from llmcalc.estimate import Item, Peak, worst_grade
from llmcalc.formula import Quantity, is_array, smaller
from llmcalc.report.call import Call
from llmcalc.units import GIB

__all__ = ["Call", "Report", "Reports", "Told"]

if TYPE_CHECKING:
    from llmcalc.hardware import Device


class _Shown(ABC):
    """The ways to show one report, or several as one table."""

    @abstractmethod
    def _reports(self) -> Sequence[Report]:
        """What is shown."""

    def to_dict(self) -> dict[str, Any]:
        """The contract's JSON as plain Python values."""
        from llmcalc.render.data import as_dict

        return as_dict(self._reports())

    def to_json(self) -> str:
        """The contract's JSON."""
        from llmcalc.render.data import dumps

        return dumps(self.to_dict())

    def to_frame(self) -> Any:
        """A pandas DataFrame: a row an item, an element of array inputs, or a GPU of several."""
        from llmcalc.render.frame import as_frame

        return as_frame(self._reports())

    def to_text(self, units: str = "gib", color: bool = False) -> str:
        """What the terminal shows."""
        from llmcalc.render.text import as_text

        return as_text(self._reports(), units, color)

    def to_markdown(self, units: str = "gib") -> str:
        """A markdown table that ends with how to reproduce it."""
        return self._table("markdown", units)

    def to_latex(self, units: str = "gib") -> str:
        """A LaTeX table."""
        return self._table("latex", units)

    def to_html(self, units: str = "gib") -> str:
        """An HTML table."""
        return self._table("html", units)

    def to_csv(self, units: str = "bytes") -> str:
        """Comma-separated rows."""
        return self._table("csv", units)

    def _table(self, kind: str, units: str) -> str:
        from llmcalc.render.table import as_table

        return as_table(self._reports(), kind, units)

    def explain(self, units: str = "gib") -> str:
        """Each line with its formula, values, where they came from, validity and source."""
        from llmcalc.render.explain import as_explanation

        return as_explanation(self._reports(), units)

    def plot(self, file: str | None = None) -> Any:
        """A picture (needs the ``plot`` extra); saved where `file` is given."""
        from llmcalc.render.plot import as_plot

        return as_plot(self._reports(), file)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return self.to_text()


class Told:
    """What would help where it does not fit, and what hardware would do.

    Attributes
    ----------
    advice : list of str
        In words.
    alternatives : list of dict
        Changes, each estimated: its option, gain, verdict and price.
    fewest : dict or None
        The least number of GPUs of this type that surely holds it, and their placement.
    cards : list of tuple
        The smallest single cards that hold it: name and memory. [B]
    """

    __slots__ = ("advice", "alternatives", "cards", "fewest")

    def __init__(self) -> None:
        self.advice: list[str] = []
        self.alternatives: list[dict[str, Any]] = []
        self.fewest: dict[str, Any] | None = None
        self.cards: list[tuple[str, int]] = []


class Report(_Shown):
    """The answer of one estimate.

    Attributes
    ----------
    items : tuple of Item
        Lines of the estimate; ``report["kv_cache"]`` finds one by name.
    peak : Peak
        Phase, rank and total of the peak.
    model, scenario : dict
        What was estimated, every input as resolved.
    device : Device or None
        The GPU asked about.
    capacity : Capacity or None
        What fits in it.
    floor_bytes : int, ndarray or None
        The architecture's minimum where the items alone do not tell it. [B]
    as_placed : bool
        Whether that is with layers where llama-server put them, though it would move them for more.
    beside : tuple of int
        How far down and up the total may lie through items that the device's limit follows: an engine
        that sets the rest of a GPU aside for them decides without them. [B]
    margins : tuple of int or ndarray, or None
        What an engine that sets a budget aside has left of it, at the unfavourable and at the favourable
        end of its range: these decide there. [B]
    missing_bytes, most_pool : int
        What is missing for the engine to start; the largest pool set by hand that surely has room. [B]
    held_bytes : int, ndarray or None
        What the card must hold, where the total counts less. [B]
    workload : dict
        Requests that vary or share: how many, and what they need in each case. [B]
    together : list of dict
        Models that are resident at once: name, bytes and, for vLLM, the share of the GPU. [B], [-]
    counted_bytes : int or None
        What an engine counts against its share, at the unfavourable end. [B]
    share : tuple of (str, int, int) or None
        Of an engine whose share is of what is free: the option, what it must hold at worst, and what is
        taken off the free memory before. [-], [B], [B]
    scheme : dict
        Of the table of formats: name, bits, bytes, hardware, and whether it fits.
    left_out : list of str
        Of the table of formats, on its first row: schemes that can't hold the model, and why.
    book : Catalog or None
        Where sources are explained.
    warnings, hints, advice : list of str
        What the reader should know, what to try, and what would make it fit.
    hinting : callable or None
        Finds hints that take estimates of their own, when somebody asks for them.
    refusal : str
        Why the engine does not even start; it then does not fit, whatever is free.
    mark : str
        What sets its total apart from those of other engines, for a table of several.
    timeline : Estimate or None
        Of training: the moments of a step.
    rl : Iteration or None
        Of reinforcement learning: roles, phases and classes of GPUs.
    ranks : list of dict
        Classes of ranks that hold the same: name, GPUs, layers, bytes and the phase of the peak.
    plan, settled : tuple or None, Scenario or None
        Model and scenario for a start command; the scenario as the engine then chose, where it chooses.
    later : callable or None
        Finds what would help, when somebody asks for it: `told` is then complete.
    """

    def __init__(self, command: str, items: Sequence[Item], peak: Peak) -> None:
        self.command = command
        self.items = tuple(items)
        self.peak = peak
        self.model: dict[str, Any] = {}
        self.scenario: dict[str, Any] = {}
        self.family = ""
        self.header: list[str] = []
        self.placement: list[str] = []
        self.origins: dict[str, str] = {}
        self.read_from = ""
        self.device: Device | None = None
        self.gpus = 1
        self.capacity: Any = None
        self.as_placed = False
        self.context_limit: int | None = None
        self.floor_bytes: Quantity | None = None
        self.beside: tuple[int, int] = (0, 0)
        self.margins: tuple[Quantity, Quantity] | None = None
        self.held_bytes: Quantity | None = None
        self.missing_bytes = self.most_pool = 0
        self.neighbours: list[tuple[str, int]] = []
        self.warnings: list[str] = []
        self._hints: list[str] = []
        self.hinting: Callable[[], list[str]] | None = None
        self.later: Callable[[], None] | None = None
        self.told = Told()
        self.refusal = ""
        self.mark = ""
        self.plan: tuple[Any, Any] | None = None
        self.settled: Any = None
        self.inventory: Any = None
        self.workload: dict[str, Any] = {}
        self.together: list[dict[str, Any]] = []
        self.counted_bytes: int | None = None
        self.share: tuple[str, int, int] | None = None
        self.scheme: dict[str, Any] = {}
        self.left_out: list[str] = []
        self.timeline: Any = None
        self.rl: Any = None
        self.ranks: list[dict[str, Any]] = []
        self.book: Any = None
        self.call: Call = Call(command, {})
        self.catalog_date = ""
        self.version = __version__

    # -- what would help: searched for when it is asked for, for it takes many estimates ---------

    def _found(self) -> Told:
        if self.later is not None:
            later, self.later = self.later, None
            later()
        return self.told

    @property
    def hints(self) -> list[str]:
        """What to try."""
        if self.hinting is not None:
            find, self.hinting = self.hinting, None
            self._hints[:0] = find()
        return self._hints

    @hints.setter
    def hints(self, told: list[str]) -> None:
        self._hints = told

    @property
    def advice(self) -> list[str]:
        """What would make it fit, in words."""
        return self._found().advice

    @property
    def alternatives(self) -> list[dict[str, Any]]:
        """Changes that would help, each estimated."""
        return self._found().alternatives

    @property
    def fewest(self) -> dict[str, Any] | None:
        """The least number of GPUs of this type that surely holds it."""
        return self._found().fewest

    @property
    def cards(self) -> list[tuple[str, int]]:
        """The smallest single cards that hold it."""
        return self._found().cards

    # -- figures -------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Item:
        for item in self.items:
            if item.name == name:
                return item
        raise KeyError(f"{name!r}; there are {', '.join(item.name for item in self.items)}")

    @property
    def names(self) -> list[str]:
        """Names of the items."""
        return [item.name for item in self.items]

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def total_bytes(self) -> Quantity:
        """Bytes per GPU on the worst rank at the peak, expected. [B]"""
        return self.peak.total

    @property
    def range_bytes(self) -> tuple[Quantity, Quantity]:
        """Low and high of the total. [B]"""
        return self.peak.low, self.peak.high

    @property
    def minimum_bytes(self) -> Quantity:
        """The architecture's minimum: all but what is assumed for the runtime. [B]"""
        if self.floor_bytes is not None:
            return self.floor_bytes
        return self.total_bytes - sum(item.bytes_at_peak for item in self.items if item.name == "runtime")

    @property
    def host_bytes(self) -> Quantity:
        """What must lie in the machine's own memory. [B]"""
        return sum(item.bytes for item in self.items if item.where == "host")

    @property
    def grade(self) -> str:
        """The weakest grade of the parts that count."""
        return worst_grade(item.grade for item in self.items if is_array(item.bytes) or item.bytes)

    @property
    def verdict(self) -> Any:
        """``fits``, ``too_close`` or ``does_not_fit`` (an array of them for arrays); None without a GPU."""
        if self.device is None:
            return None
        low, high = self.range_bytes
        low, high = low + self.beside[0], high - self.beside[1]
        surely, never = high <= self.device.usable_low, low > self.device.usable_high
        if self.margins is not None:
            surely, never = self.margins[0] >= 0, self.margins[1] < 0
        if self.is_shared:
            low, high = (
                own + sum(item.range_bytes[end] for item in self.items if item.where == "host")
                for end, own in enumerate((low, high))
            )
            surely, never = (
                surely & (high <= self.device.shared_low),
                never | (low > self.device.shared_bytes),
            )
        if is_array(surely) or is_array(never):
            import numpy as np

            return np.select([surely, never], ["fits", "does_not_fit"], "too_close")
        if self.refusal:
            return "does_not_fit"
        return "fits" if surely else "does_not_fit" if never else "too_close"

    @property
    def is_shared(self) -> bool:
        """Whether what lies on the host takes of the same memory as what lies on the device."""
        held = self.device is not None and self.device.shared_bytes
        return bool(held) and any(item.where == "host" for item in self.items)

    @property
    def headroom_bytes(self) -> Quantity | None:
        """Usable memory less the expected total; negative where it does not fit. [B]

        Where the engine does not start it is what is missing for that, if that is more. Where device
        and host have one memory it is that of both together, if that is less.
        """
        if self.device is None:
            return None
        held = self.total_bytes if self.held_bytes is None else self.held_bytes
        left = self.device.usable_bytes - held
        if self.missing_bytes:
            left = smaller(left, -self.missing_bytes)
        if not self.is_shared:
            return left
        return smaller(left, self.device.shared_low - self.total_bytes - self.host_bytes)

    @property
    def nearest(self) -> dict[str, Any] | None:
        """The published run that is nearest to this one: of this model in this engine, else of its family.

        With what was measured and what llmcalc predicts for that run; None where there is none.
        """
        from llmcalc.runs import nearest_run

        engine = self.scenario.get("engine")
        if self.command != "vram" or self.book is None or not self.family or engine in (None, "none"):
            return None
        size = int(self.model["params"])
        asked = {**self.scenario, "memory": self.device.memory_bytes / GIB if self.device else None}
        return nearest_run(self.book, str(engine), str(self.model["name"]), self.family, size, asked)

    def timeline_text(self, units: str = "gib") -> str:
        """Of training: memory over the step, as a small chart."""
        from llmcalc.render.training import timeline_text

        return timeline_text(self, units)

    def sign(self, call: Call, book: Any) -> None:
        """Note how it can be made again, and from which catalog."""
        self.call, self.book, self.catalog_date = call, book, book.date("models")

    def _reports(self) -> Sequence[Report]:
        return [self]

    def __repr__(self) -> str:
        name = self.model.get("name")
        return f"<{self.command} {name}: {self.total_bytes} bytes, {self.grade}>"


class Reports(_Shown, Sequence[Report]):
    """Reports over several GPUs, models or formats, shown as one table."""

    def __init__(self, rows: Sequence[Report]) -> None:
        self.rows = list(rows)

    def _reports(self) -> Sequence[Report]:
        return self.rows

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        names = [
            str(row.scheme["name"]) if row.scheme else row.device.name if row.device is not None else ""
            for row in self.rows
        ]
        return f"<{len(self)} reports: {', '.join(name for name in names if name)}>"
