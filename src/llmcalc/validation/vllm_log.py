"""Reads what vLLM prints while it starts: its version, what it was told, and every size."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError
from llmcalc.validation import vllm_wording as w

LINE_MOST = 1 << 16
"""Of a longer line only the beginning is read. [characters]"""

SETTINGS = {
    "tensor_parallel_size": "tp", "pipeline_parallel_size": "pp", "data_parallel_size": "dp",
    "max_seq_len": "context", "enforce_eager": "enforce_eager", "kv_cache_dtype": "kv_dtype",
    "dtype": "dtype", "quantization": "quantization", "enable_prefix_caching": "enable_prefix_caching",
}  # fmt: skip
"""Fields of the engine's configuration, and how they are called here."""

ARGUMENTS = {
    "gpu_memory_utilization": "gpu_memory_utilization", "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens", "block_size": "block_size",
    "disable_hybrid_kv_cache_manager": "disable_hybrid_kv_cache_manager", "swap_space": "swap_space",
    "num_speculative_tokens": "num_speculative_tokens", "decode_context_parallel_size": "dcp",
    "tensor_parallel_size": "tp", "pipeline_parallel_size": "pp", "data_parallel_size": "dp",
    "max_model_len": "context", "enforce_eager": "enforce_eager", "kv_cache_dtype": "kv_dtype",
    "dtype": "dtype", "quantization": "quantization", "model": "model", "model_tag": "model",
    "async_scheduling": "async_scheduling",
}  # fmt: skip
"""The same of the arguments that differ from their defaults."""

START = "Give it from the program's start until it serves or refuses."


class Figure:
    """One figure of a log.

    Attributes
    ----------
    kind : str
        What it is.
    values : list of float
        As printed, one for each rank that prints it.
    lines : list of (int, str)
        Numbers and texts of the lines.
    """

    __slots__ = ("kind", "lines", "values")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.values: list[float] = []
        self.lines: list[tuple[int, str]] = []

    @property
    def printed(self) -> float:
        """The figure: of ranks that differ the one that decides, the least room or the most use."""
        return min(self.values) if self.kind in LEAST else max(self.values)


LEAST = ("kv_budget", "kv_tokens", "blocks", "cpu_blocks", "concurrency", "longest", "memory", "free")


class VllmLog:
    """What one log says.

    Attributes
    ----------
    program : str
        ``vLLM``.
    build : str or None
        The release as printed.
    is_old : bool
        Whether the engine before V1 ran.
    told : dict
        What vLLM was told, by our names; texts.
    figures : dict of str to Figure
        By kind.
    """

    __slots__ = ("build", "figures", "is_old", "known", "program", "told")

    def __init__(self) -> None:
        self.program = "vLLM"
        self.build: str | None = None
        self.is_old = self.known = False
        self.told: dict[str, str] = {}
        self.figures: dict[str, Figure] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """What the log lacks that a comparison would need."""
        lacks = []
        if self.build is None:
            lacks.append("the release")
        if self.memory is None:
            lacks.append("the GPU's memory")
        return tuple(lacks)

    def first(self, kind: str) -> float | None:
        """The figure of a kind; None where it was not printed."""
        found = self.figures.get(kind)
        return found.printed if found else None

    @property
    def memory(self) -> float | None:
        """What the runtime reports of a GPU. [GiB]"""
        whole = self.first("memory")
        if whole is None and self.first("share") and self.first("requested"):
            whole = round(float(self.first("requested") or 0) / float(self.first("share") or 1), 2)
        return whole


def is_vllm(text: str) -> bool:
    """Whether a log is of vLLM."""
    return any(mark in text for mark in w.MARKS) or any(
        literal in text
        for literal, _, kinds in w.FIGURES
        if set(kinds) & {"kv_tokens", "blocks", "kv_needed"}
    )


def read_vllm_log(text: str, name: str) -> VllmLog:
    """Read the text of a log.

    Parameters
    ----------
    text : str
        The whole log.
    name : str
        What the log is called, for errors.

    Raises
    ------
    InputError
        If no size is in it.
    """
    log = VllmLog()
    for number, line in enumerate(text.split("\n"), 1):
        if line:
            _feed(log, number, line[:LINE_MOST])
    if not log.figures.keys() & COMPARABLE:
        raise InputError(f"{name} is a log of vLLM that holds no size of weights or caches.", START)
    return log


COMPARABLE = {
    "weights", "activations", "non_torch", "cuda_graphs", "kv_budget", "kv_tokens", "blocks", "cpu_blocks",
    "concurrency", "kv_needed", "longest", "block", "padding",
}  # fmt: skip
"""Kinds that are compared; the others say what was told or how large the GPU is."""


def _feed(log: VllmLog, number: int, line: str) -> None:
    """Read one line."""
    if "\x1b" in line:
        line = w.COLOUR.sub("", line)
    if "version" in line or "LLM engine (v" in line:
        found = w.VERSION.search(line)
        if found and log.build is None:
            log.build = found[1].rstrip(".")
    if "config: model=" in line:
        _configured(log, line)
    elif "non-default args" in line:
        _arguments(log, line)
    elif "Chunked prefill is enabled" in line and (chunks := w.CHUNKS.search(line)):
        log.told.setdefault("max_num_batched_tokens", chunks[1])
    for literal, pattern, kinds in w.FIGURES:
        if literal in line and (figures := pattern.search(line)):
            for kind, value in zip(kinds, figures.groups(), strict=True):
                if value is not None:
                    _add(log, kind, float(value.replace(",", "")), number, line)


def _add(log: VllmLog, kind: str, value: float, number: int, line: str) -> None:
    figure = log.figures.setdefault(kind, Figure(kind))
    figure.values.append(value)
    figure.lines.append((number, line.strip()[:240]))


def _configured(log: VllmLog, line: str) -> None:
    """The line in which the engine tells its configuration."""
    model = w.MODEL.search(line)
    if model:
        log.told.setdefault("model", model[2])
    version = (log.build or "0.0").split(".")
    is_before = version[0] == "0" and version[1].isdecimal() and int(version[1]) < 8
    log.is_old = w.OLD_ENGINE[0] in line or (w.OLD_ENGINE[1] in line and not is_before)
    for name, value in w.SETTING.findall(line):
        if name in SETTINGS and value != "None":
            log.told.setdefault(SETTINGS[name], value)
    drafts = line.partition("num_spec_tokens=")[2]
    if drafts and drafts.partition(",")[0].rstrip(")").isdecimal():
        log.told.setdefault("num_speculative_tokens", drafts.partition(",")[0].rstrip(")"))


def _arguments(log: VllmLog, line: str) -> None:
    """The line with the arguments that were given."""
    for name, text, word in w.ARGUMENT.findall(line):
        value = text or word
        if name in ARGUMENTS and value not in ("", "None"):
            log.told.setdefault(ARGUMENTS[name], value)


def plain(log: VllmLog) -> dict[str, Any]:
    """What was told, as values of JSON."""
    return dict(log.told)
