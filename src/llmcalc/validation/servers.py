"""Starts of servers: what is predicted for each figure of a log, beside what it printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llmcalc.errors import LlmcalcError
from llmcalc.units import GIB
from llmcalc.validation.measured import quantile

ENGINES = ("vllm", "sglang", "tensorrt-llm", "transformers")

QUANTITIES = {
    "kv_bytes_per_token": "B",
    "kv_needed": "GiB",
    "kv_tokens": "tokens",
    "concurrency": "",
    "longest": "tokens",
    "weights": "GiB",
    "activations": "GiB",
    "cuda_graphs": "GiB",
    "non_torch": "GiB",
    "kv_budget": "GiB",
}
"""What is compared, in this order, and its unit."""

CLOSE = {"weights": 0.01, "activations": 0.05, "cuda_graphs": 0.2, "non_torch": 0.2, "kv_budget": 0.015}
"""Errors that count as close; 0.005 for what pages decide. [-]"""

OF_POOL = {"kv_tokens": "kv_tokens", "concurrency": "concurrency", "longest": "longest_request"}
"""What is predicted for a pool of the printed size, and its name in the report's capacity."""

HALF = 0.005 * GIB
"""Half of the last digit of a size that a log prints in GiB. [B]"""

BANDS = {
    "vllm": (((0, 21), "0.21 on"), ((0, 15), "0.15 to 0.20"), ((0, 8), "0.8 to 0.14"), ((0, 0), "until 0.7"))
}
"""Releases that are summed up together, newest first: where accounts of memory changed."""

Ends = tuple[float, float, float]
"""Expected, low and high."""

WAYS = ("engine", "version", "source")


class ServerRow:
    """One figure of a start: predicted and measured, in the unit of its quantity.

    Attributes
    ----------
    run : dict
        The measurement's entry.
    quantity : str
        Which of its figures.
    measured, predicted, low, high : float
        As printed; expected, and the predicted range.
    scale : float
        What errors are a share of: the measured figure; of a KV budget the memory of a GPU.
    refusal : str
        Why nothing was predicted; a refusal counts as a miss.
    """

    __slots__ = ("high", "low", "measured", "predicted", "quantity", "refusal", "run", "scale")

    def __init__(
        self, run: dict[str, Any], quantity: str, predicted: float = 0.0, low: float = 0.0,
        high: float = 0.0, refusal: str = "",
    ) -> None:  # fmt: skip
        self.run, self.quantity, self.refusal = run, quantity, refusal
        self.measured = float(run["measured"][quantity])
        self.predicted, self.low, self.high = predicted, low, high
        self.scale = float(run["memory"]) if quantity == "kv_budget" else self.measured

    @property
    def error(self) -> float | None:
        """Error as a share of `scale`; None where nothing was predicted. [-]"""
        return None if self.refusal else (self.predicted - self.measured) / self.scale

    @property
    def inside(self) -> bool:
        """Whether the measured figure lies in the predicted range, to the digits printed."""
        half = 0.0051 if QUANTITIES[self.quantity] in ("GiB", "") else 0.51
        return not self.refusal and self.low - half <= self.measured <= self.high + half

    @property
    def is_close(self) -> bool:
        """Whether the error is small, as `CLOSE` has it, or the last printed digit of the pool hides it."""
        if self.error is None:
            return False
        if self.quantity in OF_POOL and self.inside:
            return True
        return abs(self.error) <= CLOSE.get(self.quantity, 0.005)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        run = self.run
        told = {name: run.get(name) for name in ("name", "engine", "program", "build", "model", "source")}
        return told | {
            "quantity": self.quantity,
            "unit": QUANTITIES[self.quantity] or None,
            "measured": self.measured,
            "predicted": None if self.refusal else round(self.predicted, 4),
            "range": None if self.refusal else [round(self.low, 4), round(self.high, 4)],
            "error": self.error,
            "refusal": self.refusal or None,
        }


def ranks(run: dict[str, Any]) -> int:
    """GPUs of a run. [-]"""
    sizes = [int(run["options"].get(name, 1)) for name in ("tp", "pp", "dp")]
    return sizes[0] * sizes[1] * sizes[2]


def compare_start(run: dict[str, Any], predict: Callable[..., Any]) -> list[ServerRow]:
    """Predict one start and compare every figure it has.

    Parameters
    ----------
    run : dict
        An entry of the measurements.
    predict : callable
        `llmcalc.vram`.
    """
    measured, rows = run["measured"], []
    for quantity in QUANTITIES:
        if quantity not in measured or (quantity == "kv_tokens" and not _counts_tokens(measured)):
            continue
        try:
            expected, low, high = _predicted(run, quantity, predict)
        except LlmcalcError as error:
            rows.append(ServerRow(run, quantity, refusal=error.problem))
        else:
            rows.append(ServerRow(run, quantity, expected, low, high))
    return rows


def _counts_tokens(measured: dict[str, float]) -> bool:
    """Whether the pool's tokens tell more than its bytes per token: of models with several kinds of layer."""
    return "kv_bytes_per_token" not in measured and bool({"pool", "kv_budget"} & set(measured))


def _predicted(run: dict[str, Any], quantity: str, predict: Callable[..., Any]) -> Ends:
    """Expected, low and high."""
    if quantity in OF_POOL:
        return _of_pool(run, quantity, predict)
    memory = run.get("memory")
    if memory is None and quantity in ("kv_bytes_per_token", "kv_budget"):
        memory = 2000.0  # bytes per token do not depend on it
    report = ask(run, predict, memory)
    if quantity == "kv_bytes_per_token":
        found = float(report.capacity.kv_bytes_per_token)
        return found, found, found
    if quantity == "kv_needed":
        need = (int(report["kv_cache"].bytes) + int(report["state"].bytes)) / GIB
        return need, need, need
    if quantity == "kv_budget":
        low, high = report.capacity.kv_budget_range_bytes
        return report.capacity.kv_budget_bytes / GIB, low / GIB, high / GIB
    item = report[quantity] if quantity != "non_torch" else part_of(report["runtime"], "non_torch")
    return _nearest(item, run["measured"][quantity])


def part_of(item: Any, name: str) -> Any:
    """A part of an item by its name; the item itself where it has no such part."""
    return next((part for part in item.items if part.name == name), item)


def _nearest(item: Any, measured: float) -> Ends:
    """Of several stages the one that is nearest: a log does not say which rank it is of."""
    places = range(len(item.amounts))
    best = min(places, key=lambda place: abs(int(item.amounts[place]) / GIB - measured))
    expected, low, high = (int(getattr(item, end)[best]) / GIB for end in ("amounts", "low", "high"))
    return expected, low, high


def _of_pool(run: dict[str, Any], quantity: str, predict: Callable[..., Any]) -> Ends:
    """What a pool of the printed size holds: expected, and for the ends of its last digit."""
    found = [
        float(getattr(ask(run, predict, run.get("memory") or 80.0, kv_cache_memory=f"{size} B").capacity,
                      OF_POOL[quantity]))
        for size in _pool_sizes(run, quantity, predict)
    ]  # fmt: skip
    return found[0], min(found), max(found)


def _pool_sizes(run: dict[str, Any], quantity: str, predict: Callable[..., Any]) -> list[int]:
    """The pool as printed, and where it is rounded its ends. [B]

    Blocks come first for the concurrency: they are the smallest rank's, the size may be the first rank's.
    """
    measured = run["measured"]
    printed = measured.get("pool", measured.get("kv_budget"))
    if printed is not None and not (quantity == "concurrency" and "blocks" in measured):
        return [int(printed * GIB), int(printed * GIB - HALF), int(printed * GIB + HALF)]
    capacity = ask(run, predict, run.get("memory") or 2000.0).capacity
    if "blocks" in measured:
        return [int(measured["blocks"]) * (capacity.kv_budget_bytes // max(capacity.kv_blocks, 1))]
    return [int(measured["kv_tokens"] * capacity.kv_bytes_per_token)]


def ask(run: dict[str, Any], predict: Callable[..., Any], memory: float | None, **more: Any) -> Any:
    """The estimate of a run's options on GPUs of so much memory. [GiB]

    Examples
    --------
    >>> from llmcalc import vram
    >>> ask({"model": "llama-3.1-8b", "engine": "vllm", "options": {"tp": 2}}, vram, 40.0).gpus
    2
    """
    gpu = {} if memory is None else {"gpu": f"{ranks(run)}x{memory}GiB"}
    return predict(run["model"], engine=run["engine"], allow_overlong=True, **gpu, **run["options"], **more)


def compare_starts(
    runs: Iterable[dict[str, Any]], predict: Callable[..., Any], engines: Sequence[str] = ENGINES
) -> list[ServerRow]:
    """All figures of all starts of some engines."""
    return [row for run in runs if run["engine"] in engines for row in compare_start(run, predict)]


class ServerSummary:
    """Errors of one quantity in one group of starts.

    Attributes
    ----------
    rows, refused, close : int
        Figures, those that were refused, and those with a small error. [-]
    median, p90, worst : float or None
        Of the absolute errors; a refusal is none of them. [-]
    covered : float or None
        Share of figures in the predicted range; None for figures without one. [-]
    width : float
        Median width of that range, as a share of what errors are a share of. [-]
    """

    __slots__ = (
        "close",
        "covered",
        "group",
        "median",
        "p90",
        "quantity",
        "refused",
        "rows",
        "width",
        "worst",
    )

    def __init__(self, group: str, quantity: str, rows: Sequence[ServerRow]) -> None:
        self.group, self.quantity, self.rows = group, quantity, len(rows)
        errors = [abs(row.error) for row in rows if row.error is not None]
        self.refused = len(rows) - len(errors)
        self.close = sum(row.is_close for row in rows)
        self.median = quantile(errors, 0.5) if errors else None
        self.p90 = quantile(errors, 0.9) if errors else None
        self.worst = max(errors) if errors else None
        is_exact = quantity in ("kv_bytes_per_token", "kv_needed")
        self.covered = None if is_exact else sum(row.inside for row in rows) / len(rows)
        spans = [(row.high - row.low) / row.scale for row in rows if not row.refusal]
        self.width = quantile(spans, 0.5) if spans else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


def group_of(run: dict[str, Any], by: str) -> str:
    """The name under which a run is summed up.

    Examples
    --------
    >>> run = {"engine": "vllm", "source": "https://github.com/vllm-project/vllm/issues/1", "options": {}}
    >>> group_of(run, "source"), group_of(run | {"options": {"engine_version": "0.9.1"}}, "version")
    ('vllm-project/vllm', 'vllm 0.8 to 0.14')
    """
    engine = str(run["engine"])
    if by == "source":
        parts = str(run["source"]).split("/")
        return "/".join(parts[3:5]) if len(parts) > 4 else "other public logs"
    if by == "version":
        text = str(run["options"].get("engine_version", "")).removeprefix("v").split()
        numbers = [part for part in (text[0].split(".") if text else []) if part.isdecimal()][:2]
        if len(numbers) < 2:
            return f"{engine} newest"
        version = (int(numbers[0]), int(numbers[1]))
        bands = BANDS.get(engine, ())
        return f"{engine} {next((name for start, name in bands if version >= start), '.'.join(numbers))}"
    return engine


def summarise_starts(rows: Sequence[ServerRow], by: str = "engine") -> list[ServerSummary]:
    """Errors by engine, release or source, and quantity."""
    groups: dict[str, list[ServerRow]] = {}
    for row in rows:
        groups.setdefault(group_of(row.run, by), []).append(row)
    order = sorted(groups) if by == "version" else list(groups)
    if by == "source":
        order.sort(key=lambda name: -len(groups[name]))
    found = []
    for group in order:
        for quantity in QUANTITIES:
            own = [row for row in groups[group] if row.quantity == quantity]
            if own:
                found.append(ServerSummary(group, quantity, own))
    return found
