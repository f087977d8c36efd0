"""Reads what SGLang prints while it starts, and sets it beside what is predicted.

SGLang's GB are GiB. Every pattern begins with a literal that a line must hold before it is searched, and
lengths are bounded, so that time is linear in the length of the log.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmcalc.errors import InputError
from llmcalc.units import GIB
from llmcalc.validation.against_vllm import Compared, drop_damaged_ranks, scheme_of
from llmcalc.validation.vllm_log import LINE_MOST, START, Figure, VllmLog
from llmcalc.validation.vllm_wording import COLOUR

N, COUNT = r"(-?\d{1,6}(?:\.\d{1,6})?)", r"(\d{1,12})"

MARKS = (
    "server_args=ServerArgs(",
    "Load weight end. ",
    "Memory pool end. avail mem=",
    "max_total_num_tokens=",
)
"""What only SGLang prints at its start."""

FIGURES: tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (literal, re.compile(pattern), kinds)
    for literal, pattern, kinds in (
        ("Load weight begin.", rf"avail mem={N} GB", ("free",)),
        ("Load weight end.", rf"avail mem={N} GB(?:, mem usage={N} GB)?", ("left", "weights")),
        ("KV Cache is allocated.", rf"K size: {N} GB, V size: {N} GB", ("k_size", "v_size")),
        ("KV Cache is allocated.", rf"KV size: {N} GB", ("k_size",)),
        ("Mamba Cache is allocated.", rf"max_mamba_cache_size: {COUNT}", ("state_slots",)),
        ("sliding window memory pool", rf"swa_layer_tokens={COUNT}", ("window_tokens",)),
        ("graph end.", rf"mem usage={N} GB", ("cuda_graphs",)),
        (
            "max_total_num_tokens=",
            rf"max_total_num_tokens={COUNT}(?:.{{0,200}}?context_len={COUNT})?",
            ("kv_tokens", "length"),
        ),
    )
)
"""A literal, the pattern, and what its groups are."""

ARGUMENT = re.compile(r"\b([a-z_]{4,40})=(?:'([^']{0,400})'|([\w.+-]{1,60}))")
VERSION = re.compile(r"\bsglang(?:==|: | version:? )v?(0\.\d{1,2}\.\d{1,3}(?:\.post\d{1,2})?)")

PASSED = {
    "model_path": "model", "tp_size": "tp", "pp_size": "pp", "dp_size": "dp", "context_length": "context",
    "kv_cache_dtype": "kv_dtype", "dtype": "dtype", "quantization": "quantization",
    "mem_fraction_static": "mem_fraction_static", "chunked_prefill_size": "chunked_prefill_size",
    "cuda_graph_max_bs": "cuda_graph_max_bs", "max_running_requests": "max_running_requests",
    "max_total_tokens": "max_total_tokens", "page_size": "page_size",
    "swa_full_tokens_ratio": "swa_full_tokens_ratio", "mamba_full_memory_ratio": "mamba_full_memory_ratio",
    "max_mamba_cache_size": "max_mamba_cache_size", "mamba_ssm_dtype": "mamba_ssm_dtype",
    "speculative_num_draft_tokens": "speculative_num_draft_tokens", "speculative_algorithm": "speculation",
    "disable_radix_cache": "disable_radix_cache", "disable_cuda_graph": "disable_cuda_graph",
    "enable_dp_attention": "enable_dp_attention", "disable_hybrid_swa_memory": "disable_hybrid_swa_memory",
}  # fmt: skip
"""Server arguments, and how they are called here."""

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32"}

COMPARABLE = ("weights", "kv_tokens", "window_tokens", "state_slots", "cuda_graphs")
"""What is compared, in this order."""


class SglangLog(VllmLog):
    """What one log of SGLang says; `figures` and `told` as of vLLM's."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.program = "SGLang"

    @property
    def basis(self) -> str:
        """What the pools are predicted from."""
        return "Pools are predicted from the memory that was free when loading began."

    @property
    def memory(self) -> float | None:
        """What was free when loading began, on the rank with least. [GiB]"""
        found = self.first("free")
        left, weights = self.first("left"), self.first("weights")
        return round(left + weights, 2) if found is None and left and weights else found

    @property
    def missing(self) -> tuple[str, ...]:
        """What the log lacks that a comparison would need."""
        lacks = ["the release"] if self.build is None else []
        if self.memory is None:
            lacks.append("the free memory before loading")
        if "mem_fraction_static" not in self.told:
            lacks.append("the server arguments")
        return tuple(lacks)


def is_sglang(text: str) -> bool:
    """Whether a log is of SGLang."""
    return any(mark in text for mark in MARKS)


def read_sglang_log(text: str, name: str) -> SglangLog:
    """Read the text of a log.

    Raises
    ------
    InputError
        If no size is in it.

    Examples
    --------
    >>> log = read_sglang_log("Load weight end. type=A, avail mem=6.09 GB, mem usage=15.54 GB.", "it")
    >>> log.first("weights"), log.memory
    (15.54, 21.63)
    """
    log = SglangLog()
    for number, line in enumerate(text.split("\n"), 1):
        if line:
            _feed(log, number, line[:LINE_MOST])
    if not log.figures.keys() & set(COMPARABLE):
        raise InputError(f"{name} is a log of SGLang that holds no size of weights or caches.", START)
    return log


def _feed(log: SglangLog, number: int, line: str) -> None:
    """Read one line."""
    if "\x1b" in line:
        line = COLOUR.sub("", line)
    if "sglang" in line and log.build is None and (found := VERSION.search(line)):
        log.build = found[1]
    if "server_args=ServerArgs(" in line:
        for name, text, word in ARGUMENT.findall(line):
            if name in PASSED and (text or word) not in ("", "None"):
                log.told.setdefault(PASSED[name], text or word)
    for literal, pattern, kinds in FIGURES:
        if literal in line and (figures := pattern.search(line)):
            for kind, value in zip(kinds, figures.groups(), strict=True):
                if value is not None:
                    figure = log.figures.setdefault(kind, Figure(kind))
                    figure.values.append(float(value))
                    figure.lines.append((number, line.strip()[:240]))


def options_of(log: SglangLog, is_own: bool) -> dict[str, Any]:
    """What SGLang was told, as keywords of `llmcalc.vram`."""
    told = log.told
    found: dict[str, Any] = {
        name: told[name] == "True" if told[name] in ("True", "False") else told[name]
        for name in PASSED.values()
        if name in told and name not in ("model", "quantization", "speculation")
    }
    drop_damaged_ranks(found)
    if "speculation" not in told:
        found.pop("speculative_num_draft_tokens", None)
    if str(found.get("chunked_prefill_size", "")).startswith("-"):
        found.pop("chunked_prefill_size")
    for name in ("dtype", "kv_dtype"):
        value = str(found.get(name, "auto"))
        found[name] = None if value == "auto" else DTYPES.get(value, value)
    if log.first("length"):
        found["context"] = int(log.first("length") or 0)
    if log.build:
        found["engine_version"] = log.build
    scheme = scheme_of(log, is_own)
    if scheme:
        found["quant"] = scheme
    return {name: value for name, value in found.items() if value is not None}


def compare_sglang(
    log: SglangLog, model: Any, predict: Callable[..., Any], is_own: bool = False, **more: Any
) -> tuple[list[Compared], Any]:
    """Predict what a log prints, and set both side by side; arguments as of `compare_vllm`.

    Returns
    -------
    tuple
        The figures, and the report.
    """
    given = options_of(log, is_own) | {key: value for key, value in more.items() if value is not None}
    shared = given.get("enable_dp_attention")
    ranks = int(given.get("tp", 1)) * int(given.get("pp", 1)) * (1 if shared else int(given.get("dp", 1)))
    gpu = {} if log.memory is None else {"gpu": f"{ranks}x{log.memory}GiB"}
    report = predict(model, engine="sglang", allow_overlong=True, **gpu, **given)
    rows = []
    for kind in COMPARABLE:
        if kind in log.figures:
            rows.append(Compared(log.figures[kind], _predicted(kind, log, report)))
    return rows, report


def _predicted(kind: str, log: SglangLog, report: Any) -> float | None:
    """One figure, in the unit of its kind; None where the log tells too little."""
    if kind in ("weights", "cuda_graphs"):
        printed = log.figures[kind].printed
        sizes = [int(amount) / GIB for amount in report[kind].amounts]
        return min(sizes, key=lambda found: abs(found - printed))
    if report.capacity is None or "mem_fraction_static" not in log.told:
        return None
    value = getattr(report.capacity, kind)
    return None if value is None else float(value)
