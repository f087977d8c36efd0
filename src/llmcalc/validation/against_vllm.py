"""A user's own log of vLLM: what was predicted for each figure, beside what was printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmcalc.errors import LlmcalcError
from llmcalc.units import GIB
from llmcalc.validation.vllm_log import Figure, VllmLog

SHOWN = {
    "weights": "GiB", "activations": "GiB", "non_torch": "GiB", "cuda_graphs": "GiB", "kv_budget": "GiB",
    "block": "tokens", "padding": "layers", "kv_needed": "GiB", "longest": "tokens", "kv_tokens": "tokens",
    "blocks": "blocks", "cpu_blocks": "blocks", "concurrency": "", "window_tokens": "tokens",
    "state_slots": "slots",
}  # fmt: skip
"""What is compared, in this order, and its unit."""

OF_POOL = {
    "kv_tokens": "kv_tokens", "blocks": "kv_blocks", "concurrency": "concurrency",
    "longest": "longest_request",
}  # fmt: skip
"""What follows from the printed budget, and its name in the report's capacity."""

SWAP = "4"
"""vLLM's swap space for each GPU before V1, where it is not told. [GiB]"""

PASSED = (
    "tp", "pp", "dp", "context", "dtype", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens",
    "num_speculative_tokens", "dcp",
)  # fmt: skip
FLAGS = ("enforce_eager", "enable_prefix_caching", "disable_hybrid_kv_cache_manager", "async_scheduling")

BY_NAME = (
    (r"w4a16|wna16", "w4a16"), (r"w8a16", "w8a16"), (r"w8a8(?!.*fp8)|int8", "w8a8"), (r"nvfp4|fp4", "nvfp4"),
    (r"fp8[-_]dynamic|fp8dyn", "fp8-dynamic"), (r"fp8", "fp8"), (r"int4|4bit", "w4a16"),
)  # fmt: skip
"""Schemes by a word of a checkpoint's name, for the methods that hold several."""

METHODS = {"awq": "awq", "gptq": "gptq", "bitsandbytes": "nf4", "mxfp4": None, "gpt_oss_mxfp4": None}
"""Schemes by the method that vLLM prints; None: the model's own."""

TAILS = re.compile(
    r"(?i)([-_.](awq|gptq|int4|int8|fp8|fp8[-_]dynamic|nvfp4|bnb|4bit|8bit|g128|quantized|w4a16|w8a8|w8a16|"
    r"autoround|unsloth|gguf|q\d\w*|bf16|fp16|dynamic))+$"
)


class Compared:
    """One figure of a log.

    Attributes
    ----------
    figure : Figure
        As printed.
    predicted : float or None
        None where the log tells too little for it.
    """

    __slots__ = ("figure", "predicted")

    def __init__(self, figure: Figure, predicted: float | None) -> None:
        self.figure, self.predicted = figure, predicted

    @property
    def kind(self) -> str:
        """What it is."""
        return self.figure.kind

    @property
    def open(self) -> tuple[str, ...]:
        """Options that the log leaves open; a server prints all that it depends on."""
        return ()

    @property
    def printed(self) -> float:
        """As printed, in the unit of its kind."""
        return self.figure.printed

    @property
    def error(self) -> float | None:
        """Relative error. [-]"""
        if self.predicted is None or not self.printed:
            return None
        return self.predicted / self.printed - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "lines": [number for number, _ in self.figure.lines],
            "kind": self.kind,
            "unit": SHOWN[self.kind] or None,
            "printed": self.printed,
            "predicted": None if self.predicted is None else round(self.predicted, 4),
            "error": self.error,
        }


def names_of(log: VllmLog) -> list[str]:
    """What a log calls its model: as told, its last part, and that without words of a quantization."""
    told = log.told.get("model", "")
    if not told:
        return []
    last = re.sub(r"\.gguf$", "", told.replace("\\", "/").rstrip("/").rpartition("/")[2])
    last = last.replace("___", ".")  # how ModelScope writes a dot
    found = [told, last, TAILS.sub("", last)]
    found += [re.sub(r"(?i)^meta-", "", name) for name in found[1:]]
    return [name for name in dict.fromkeys(found) if name]


def scheme_of(log: VllmLog, is_own: bool) -> str | None:
    """The scheme of the weights; None: as the model's configuration has it.

    Examples
    --------
    >>> log = VllmLog()
    >>> log.told = {"quantization": "awq_marlin", "model": "Qwen/Qwen2.5-7B-Instruct-AWQ"}
    >>> scheme_of(log, False)
    'awq'
    """
    method = log.told.get("quantization", "").lower().removesuffix("_marlin")
    name = log.told.get("model", "").lower()
    if not method:
        return None if is_own else "none"
    if method in METHODS:
        found = METHODS[method]
        return f"{found}-dq" if found == "nf4" and "unsloth" in name else found
    if method == "gguf":
        found_type = re.search(r"(i?q\d\w{0,6})(?:-\d{5}-of-\d{5})?(?:\.gguf)?$", name)
        return found_type[1] if found_type else None
    if is_own:
        return None
    return next((scheme for word, scheme in BY_NAME if re.search(word, name)), None) or (
        "fp8" if method == "fp8" else None
    )


def drop_damaged_ranks(found: dict[str, Any]) -> None:
    """Leave out numbers of ranks that a damaged line made no numbers."""
    for name in ("tp", "pp", "dp"):
        if not str(found.get(name, "1")).isdecimal():
            del found[name]


def options_of(log: VllmLog, is_own: bool) -> dict[str, Any]:
    """What vLLM was told, as keywords of `llmcalc.vram`."""
    told = log.told
    found: dict[str, Any] = {name: told[name] for name in PASSED if name in told}
    drop_damaged_ranks(found)
    if found.get("dtype") in ("auto", "half"):
        found["dtype"] = "fp16" if found["dtype"] == "half" else None
    found["dtype"] = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}.get(
        str(found.get("dtype")), found.get("dtype")
    )
    for name in FLAGS:
        if told.get(name) in ("True", "False"):
            found[name] = told[name] == "True"
    if told.get("kv_dtype", "auto") != "auto":
        found["kv_dtype"] = told["kv_dtype"].removesuffix("_e4m3").removesuffix("_e5m2")
    if told.get("block_size", "").isdecimal():
        found["block_size"] = told["block_size"]
    length, share = log.first("length"), log.first("share")
    if length:
        found["context"] = int(length)
    if share and "gpu_memory_utilization" not in found:
        found["gpu_memory_utilization"] = share
    if log.build:
        found["engine_version"] = f"{log.build} V0" if log.is_old else log.build
    scheme = scheme_of(log, is_own)
    if scheme:
        found["quant"] = scheme
    return {name: value for name, value in found.items() if value is not None}


def compare_vllm(
    log: VllmLog, model: Any, predict: Callable[..., Any], is_own: bool = False, **more: Any
) -> tuple[list[Compared], Any]:
    """Predict what a log prints, and set both side by side.

    Parameters
    ----------
    log : VllmLog
        As read.
    model : str or Inventory
        What was loaded.
    predict : callable
        `llmcalc.vram`.
    is_own : bool
        Whether the model's own configuration says how it is quantized.
    **more
        Keywords that the log does not tell.

    Returns
    -------
    tuple
        The figures, and the report.
    """
    given = options_of(log, is_own) | {key: value for key, value in more.items() if value is not None}
    ranks = 1
    for name in ("tp", "pp", "dp"):
        ranks *= int(given.get(name, 1))
    memory = log.memory

    def ask(size: float | None, **extra: Any) -> Any:
        gpu = {} if size is None else {"gpu": f"{ranks}x{size}GiB"}
        return predict(model, engine="vllm", allow_overlong=True, **gpu, **given, **extra)

    report = ask(memory)
    budget = log.first("kv_budget")
    pool = None
    if budget is not None and budget > 0 and log.figures.keys() & OF_POOL.keys():
        pool = ask(memory or 2000.0, kv_cache_memory=f"{int(budget * GIB)} B")
    rows = []
    for kind in SHOWN:
        if kind in log.figures:
            try:
                predicted = _predicted(kind, log, report, pool)
            except LlmcalcError:
                predicted = None
            rows.append(Compared(log.figures[kind], predicted))
    return rows, report


def _predicted(kind: str, log: VllmLog, report: Any, pool: Any) -> float | None:
    """One figure, in the unit of its kind; None where the log tells too little."""
    cache = report["kv_cache"]
    if kind in OF_POOL:
        if pool is None and kind == "blocks" and report.capacity is not None:
            return float(report.capacity.kv_blocks)
        return None if pool is None else float(getattr(pool.capacity, OF_POOL[kind]))
    if kind == "kv_budget":
        known = log.memory is not None and report.capacity is not None
        return report.capacity.kv_budget_bytes / GIB if known else None
    if kind == "kv_needed":
        return (int(cache.bytes) + int(report["state"].bytes)) / GIB
    if kind in ("block", "padding"):
        return float(cache.inputs[kind])
    if kind == "cpu_blocks":
        swap = float(log.told.get("swap_space", SWAP)) * GIB
        return float(int(swap // int(cache.inputs["block_bytes"])))
    if kind == "non_torch":
        parts = [part for part in report["runtime"].items if part.name == "non_torch"]
        return max(int(part.bytes) for part in parts) / GIB if parts else None
    return _nearest(report[kind].amounts, log.figures[kind].printed)


def _nearest(amounts: Any, printed: float) -> float:
    """Of several stages the one that is nearest: a log does not say which rank it is of. [GiB]"""
    return min((int(amount) / GIB for amount in amounts), key=lambda found: abs(found - printed))
