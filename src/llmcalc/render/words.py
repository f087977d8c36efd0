"""Names and phrases that the renderers share."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import is_array
from llmcalc.units import DISPLAY, format_bytes

LABELS = {
    "weights": "weights",
    "overhead": "overhead",
    "kv_cache": "KV cache",
    "state": "state",
    "activations": "activations",
    "cuda_graphs": "CUDA graphs",
    "runtime": "runtime",
    "projector": "projector",
    "projector_activations": "projector buffer",
    "lora": "LoRA adapters",
    "draft_weights": "draft weights",
    "draft_kv_cache": "draft KV cache",
    "draft_state": "draft state",
    "draft_activations": "draft buffer",
    "draft_logits": "draft logits",
    "repack": "re-laid weights",
    "master_weights": "master weights",
    "optimizer": "optimizer",
    "gradients": "gradients",
    "logits": "logits",
    "gathered": "gathered",
    "buffers": "buffers",
    "paged_optimizer": "paged optimizer",
    "rollout_engine": "rollout engine",
}
VERDICTS = {"fits": "FITS", "does_not_fit": "DOES NOT FIT", "too_close": "TOO CLOSE TO CALL"}


def label(report: Any, item: Any) -> str:
    """How an item is called in a table."""
    plain = item.name.removeprefix("host_")
    text = LABELS.get(plain, str(plain).replace("_", " ")) + (" (host)" if plain != item.name else "")
    if item.name == "kv_cache":
        key, value = report.scenario.get("kv_dtype_k"), report.scenario.get("kv_dtype_v")
        if key:
            text += f" ({key})" if key == value else f" ({key}/{value})"
    return text


def amount(value: Any, units: str) -> str:
    """Bytes in the chosen unit; the span of an array."""
    if is_array(value):
        return f"{format_bytes(int(value.min()), units)} to {format_bytes(int(value.max()), units)}"
    return format_bytes(value, units)


def bare(value: Any, units: str, digits: int = 2) -> str:
    """Bytes in the chosen unit, without its name."""
    factor = DISPLAY[units][1]
    if is_array(value):
        return f"{bare(int(value.min()), units, digits)}-{bare(int(value.max()), units, digits)}"
    return f"{value:,}" if factor == 1 else f"{value / factor:,.{digits}f}"


def visible(report: Any) -> list[Any]:
    """Items worth a line: those that hold something, and those always expected."""
    return [
        item
        for item in report.items
        if (is_array(item.bytes_at_peak) or item.bytes_at_peak or item.name == "weights")
        or (report.command == "train" and (is_array(item.bytes) or item.bytes))
    ]


def assumptions(report: Any) -> str:
    """What was assumed, in a few words."""
    assumed = [
        f"{LABELS.get(item.name, item.name)} ({item.note})"
        for item in report.items
        if item.grade == "assumed"
    ]
    return "; ".join(assumed) or "none"


def reproduce(report: Any) -> str:
    """The line that lets a reader repeat a table."""
    return (
        f"{report.call.shown()} (llmcalc {report.version}, catalog {report.catalog_date}; "
        f"assumed: {assumptions(report)})"
    )


def verdict_of(report: Any) -> str:
    """The verdict in words; how many of each for arrays."""
    verdict = report.verdict
    if is_array(verdict):
        counts = [(word, int((verdict == word).sum())) for word in VERDICTS]
        return ", ".join(f"{VERDICTS[word]} {number:,}" for word, number in counts if number)
    return VERDICTS[verdict]


def row_name(report: Any) -> str:
    """What tells a report from the others beside it: a format, a GPU, a model."""
    if report.scheme:
        return str(report.scheme["name"])
    return device_name(report) if report.device is not None else str(report.model["name"])


def device_name(report: Any) -> str:
    """The GPUs of a row, such as ``8 x H100 SXM``."""
    return f"{report.gpus} x {report.device.name}" if report.gpus > 1 else str(report.device.name)
