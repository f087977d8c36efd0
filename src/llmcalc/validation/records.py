"""What a start-up log says of one context: sizes, caches, settings."""

from __future__ import annotations

from collections.abc import Iterable

from llmcalc.validation.wording import whole

HOST = ("CPU", "AMX", "BLAS", "Host", "host")
TRUE = ("1", "true", "enabled", "on")
FALSE = ("0", "false", "disabled", "off")


def is_host(device: str | None) -> bool:
    """Whether a buffer of this name lies in system memory.

    Pinned buffers (`CUDA_Host`) and memory-mapped files (`CPU_Mapped`) are system memory;
    `Metal_Mapped` is the GPU's view of a file.

    Examples
    --------
    >>> [is_host(name) for name in ("CPU_Mapped", "Vulkan_Host", "CUDA0", "MTL0_Mapped")]
    [True, True, False, False]
    """
    name = device or ""
    return name in HOST or name.startswith("CPU_") or name.endswith("_Host")


class Line:
    """One printed size.

    Attributes
    ----------
    number : int
        Where it stands in the log, from 1.
    text : str
        The line, without colours.
    kind : str
        `weights`, `kv_cache`, `kv_swa`, `state`, `output`, `input`, `compute`, `lora`, `mmproj`,
        `mmproj_compute`, `context`, `vram` or `projected`.
    device : str or None
        The buffer's name as printed; None where the line names none.
    mib : float
        The size. [MiB]
    step : float
        What one unit of the last printed digit is worth. [MiB]
    total : bool
        A sum that other lines give in parts.
    superseded : bool
        A later line of the same context printed this buffer again.
    """

    __slots__ = ("device", "kind", "mib", "number", "step", "superseded", "text", "total")

    def __init__(
        self,
        number: int,
        text: str,
        kind: str,
        device: str | None,
        size: tuple[float, float],
        total: bool = False,
    ) -> None:
        self.number, self.text, self.kind, self.device = number, text, kind, device
        self.mib, self.step = size
        self.total, self.superseded = total, False

    @property
    def host(self) -> bool:
        """Whether the buffer lies in system memory."""
        return is_host(self.device)

    def __repr__(self) -> str:
        return f"Line({self.number}, {self.kind}, {self.device}, {self.mib} MiB)"


class Cache:
    """One cache of a context: keys and values, or the state of recurrent layers.

    Attributes
    ----------
    kind : str
        `kv_cache`, `kv_swa` or `state`.
    label : str
        How the log calls it (`non-SWA`, `SWA`, `indexer`...); empty where it does not say.
    cells, layers, sequences, streams : int or None
        As printed; `streams` is 1 where all sequences share one pool of cells.
    snapshots : int or None
        States of each sequence that a rejected draft can go back to, as printed. [-]
    parts : dict
        Name (`K`, `V`, `R`, `S`, `c^KV`...) to number format and size. [MiB]
    lines : list of Line
        The buffer on each device.
    total : Line or None
        The line with the sum.
    """

    __slots__ = (
        "cells", "devices", "kind", "label", "layers", "lines", "parts", "sequences", "snapshots", "streams",
        "total",
    )  # fmt: skip

    def __init__(self, kind: str, label: str = "", cells: int | None = None) -> None:
        self.kind, self.label, self.cells = kind, label, cells
        self.layers: int | None = None
        self.sequences: int | None = None
        self.streams: int | None = None
        self.snapshots: int | None = None
        self.parts: dict[str, tuple[str, float]] = {}
        self.lines: list[Line] = []
        self.devices: set[str | None] = set()
        self.total: Line | None = None

    @property
    def counted(self) -> list[Line]:
        """The lines that make up the cache: those of the devices, or the sum alone.

        A pass that only measures prints 0 for each device and the true sum.
        """
        if self.total is not None and sum(line.mib for line in self.lines) == 0:
            return [self.total]
        return self.lines

    @property
    def mib(self) -> float:
        """Size over all devices. [MiB]"""
        return sum_mib(self.counted)

    def part(self, *names: str) -> tuple[str, float] | None:
        """Number format and size of the first of these parts that was printed. [MiB]"""
        return next((self.parts[name] for name in names if name in self.parts), None)


class Context:
    """One context: its settings, caches and buffers.

    Attributes
    ----------
    role : str
        `model`, or `draft` for the drafting context of the same weights.
    settings : dict
        Everything that was printed as `name = value`, as text.
    caches : list of Cache
        In the order of the log.
    lines : list of Line
        All sizes printed for it, repeated ones included.
    """

    __slots__ = ("caches", "latest", "lines", "role", "settings")

    def __init__(self, role: str = "model") -> None:
        self.role = role
        self.settings: dict[str, str] = {}
        self.caches: list[Cache] = []
        self.lines: list[Line] = []
        self.latest: dict[tuple[str, str | None], Line] = {}

    def number(self, *names: str) -> int | None:
        """A setting as a whole number: the first of these names that was printed. [-]"""
        return next((whole(self.settings[name]) for name in names if name in self.settings), None)

    def flag(self, name: str) -> bool | None:
        """A setting as yes or no; None if the log leaves it open."""
        value = self.settings.get(name)
        return True if value in TRUE else False if value in FALSE else None

    @property
    def n_ctx(self) -> int | None:
        """Cells over all sequences. [tokens]"""
        return self.number("n_ctx")

    @property
    def n_ctx_seq(self) -> int | None:
        """What one sequence may use. [tokens]"""
        return self.number("n_ctx_seq", "n_ctx_per_seq")

    @property
    def n_batch(self) -> int | None:
        """Tokens of a logical batch. [tokens]"""
        return self.number("n_batch")

    @property
    def n_ubatch(self) -> int | None:
        """Tokens of a physical batch. [tokens]"""
        return self.number("n_ubatch")

    @property
    def n_seq_max(self) -> int | None:
        """Sequences at once. [-]"""
        return self.number("n_seq_max")

    @property
    def n_outputs_max(self) -> int | None:
        """Rows of logits that the graph is laid out for. [-]"""
        return self.number("n_outputs_max")

    @property
    def flash_attn(self) -> bool | None:
        """Whether flash attention is on; None if the log does not say what `auto` became."""
        return self.flag("flash_attn")

    @property
    def kv_unified(self) -> bool | None:
        """Whether all sequences share one pool of cells."""
        return self.flag("kv_unified")

    @property
    def swa_full(self) -> bool | None:
        """Whether layers with a window keep the whole context; None if there are no two caches."""
        if "swa_full" in self.settings:
            return True
        return False if any(cache.kind == "kv_swa" for cache in self.caches) else None

    @property
    def type_k(self) -> str | None:
        """Number format of the keys."""
        return self._type("type_k", "K", "c^KV", "K-only")

    @property
    def type_v(self) -> str | None:
        """Number format of the values; None where none are stored."""
        return self._type("type_v", "V", "kv^T")

    def _type(self, setting: str, *names: str) -> str | None:
        found = [part[0] for cache in self.caches if cache.kind != "state" and (part := cache.part(*names))]
        return found[0] if found else self.settings.get(setting)

    @property
    def counted(self) -> list[Line]:
        """Lines that add up to what the context holds: sums and repeated buffers left out."""
        inside = [line for cache in self.caches for line in cache.counted]
        cached = {id(line) for cache in self.caches for line in cache.lines}
        return inside + [
            line for line in self.lines if not (line.total or line.superseded or id(line) in cached)
        ]


def sum_mib(lines: Iterable[Line]) -> float:
    """Sum of printed sizes, free of binary rounding. [MiB]"""
    return round(sum(line.mib for line in lines), 4)
