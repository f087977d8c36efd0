"""A user's own log: what was predicted for each buffer, beside what was printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.errors import InputError
from llmcalc.units import MIB
from llmcalc.validation.log import Context, Line, Load, Log

ITEMS = {
    "weights": "weights",
    "kv_cache": "kv_cache",
    "kv_swa": "kv_cache",
    "state": "state",
    "compute": "activations",
    "output": "host_logits",
}
"""Items of the estimate for each kind of line."""


UNSIZED = (("q2_k", "_m"), ("q6_k", "_m"))
"""Types that llama.cpp prints with a size that their names lack."""

GRAPHS_FROM = 1_850
"""Builds of 2023 kept one scratch buffer, which is not modelled."""


class Compared:
    """One line of a log.

    Attributes
    ----------
    lines : list of Line
        What was printed for the same thing on the same device; added up.
    kind, device : str
        What it holds, and where.
    printed, predicted : float
        Sizes; None where nothing is predicted. [MiB]
    """

    __slots__ = ("device", "kind", "lines", "predicted", "printed")

    def __init__(self, kind: str, device: str, lines: list[Line], predicted: float | None) -> None:
        self.kind, self.device, self.lines, self.predicted = kind, device, lines, predicted
        self.printed = sum(line.mib for line in lines)

    @property
    def error(self) -> float | None:
        """Relative error. [-]"""
        if self.predicted is None or not self.printed:
            return None
        return self.predicted / self.printed - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "lines": [line.number for line in self.lines],
            "kind": self.kind,
            "device": self.device,
            "printed_mib": round(self.printed, 3),
            "predicted_mib": None if self.predicted is None else round(self.predicted, 3),
            "error": self.error,
        }


def options_of(log: Log, load: Load) -> dict[str, Any]:
    """What llama.cpp was told, as keywords of `llmcalc.vram`."""
    found: dict[str, Any] = {}
    context = load.context
    if context is not None:
        found |= _context(context)
    if load.gpu_layers is not None:
        found["gpu_layers"] = load.gpu_layers[0]
    scheme = scheme_of(load.file_type)
    if scheme:
        found["quant"] = scheme
    if log.program == "ik_llama.cpp":
        found["engine_version"] = "ik"
    elif log.build is not None:
        found["engine_version"] = f"b{log.build}"
    free = [device.free_mib for device in log.devices.values() if device.free_mib]
    if len(free) > 1 and len(free) == len(gpus_of(log, load)):
        found["tensor_split"] = free
    return found


def _context(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, keyword in (
        ("n_ctx", "n_ctx"), ("n_ubatch", "ubatch"), ("n_seq_max", "parallel"), ("type_k", "kv_dtype_k"),
        ("type_v", "kv_dtype_v"),
    ):  # fmt: skip
        value = getattr(context, name)
        if value is not None:
            found[keyword] = value
    for name in ("flash_attn", "kv_unified", "swa_full"):
        value = getattr(context, name)
        if value is not None:
            found[name] = bool(value)
    return found


def scheme_of(file_type: str | None) -> str | None:
    """``Q4_K - Medium`` as a scheme's name.

    Examples
    --------
    >>> scheme_of("Q4_K - Medium"), scheme_of("Q2_K - Medium"), scheme_of("IQ4_XS - 4.25 bpw")
    ('q4_k_m', 'q2_k', 'iq4_xs')
    """
    if not file_type:
        return None
    head, _, tail = file_type.removesuffix(" (guessed)").partition(" - ")
    name = head.strip().lower()
    size = {"small": "_s", "medium": "_m", "large": "_l"}.get(tail.strip().lower(), "")
    if name in ("f16", "bf16", "f32", "all f32", "mostly f16"):
        return f"gguf-{name.split()[-1]}"
    name = name.removeprefix("mostly ")
    return name + ("" if (name, size) in UNSIZED else size)


def gpus_of(log: Log, load: Load) -> list[str]:
    """Devices that hold something, in the order of the log."""
    names = [line.device for line in load.counted if line.device and not line.host]
    plain = dict.fromkeys(name.removesuffix("_Mapped").removesuffix("_Private") for name in names)
    known = [name for name in log.devices if name in plain]
    return known or list(plain)


def compare_log(log: Log, model: Any, predict: Callable[..., Any], **more: Any) -> tuple[list[Compared], Any]:
    """Predict the main model of a log and set both side by side.

    Parameters
    ----------
    log : Log
        As read.
    model : str or Inventory
        What was loaded.
    predict : callable
        `llmcalc.vram`.
    **more
        Keywords that the log does not tell.

    Returns
    -------
    tuple
        The lines, and the report.
    """
    load = log.main
    if load is None:
        raise InputError("The log loads no model.", "Give it from the start of the program.")
    gpus = gpus_of(log, load)
    given = {**options_of(log, load), **{key: value for key, value in more.items() if value is not None}}
    report = predict(
        model, engine="llama.cpp", pp=len(gpus) or None, allow_overlong=True,
        **({} if gpus else {"gpu_layers": 0}), **given,
    )  # fmt: skip
    held: dict[tuple[str, str], list[Line]] = {}
    drafts = {id(line) for context in load.contexts[1:] for line in context.lines}
    scratch = 0 < (log.build or 0) < GRAPHS_FROM
    for line in load.counted:
        if line.kind in ITEMS and id(line) not in drafts:
            place = "host" if line.host or line.device is None else str(line.device).removesuffix("_Mapped")
            held.setdefault((ITEMS[line.kind], place), []).append(line)
    rows = [
        Compared(
            kind.removeprefix("host_"),
            place,
            lines,
            None if scratch and kind == "activations" else _predicted(report, kind, place, gpus),
        )
        for (kind, place), lines in held.items()
    ]
    return rows, report


def _predicted(report: Any, kind: str, place: str, gpus: list[str]) -> float | None:
    """What the report says of one buffer. [MiB]"""
    if kind == "host_logits":
        return int(report[kind].amounts[0]) / MIB
    if place == "host":
        names = (f"host_{kind}",)
        return sum(int(report[name].amounts[0]) for name in names if name in report.names) / MIB
    if place not in gpus or gpus.index(place) >= len(report[kind].amounts):
        return None
    return int(report[kind].amounts[gpus.index(place)]) / MIB
