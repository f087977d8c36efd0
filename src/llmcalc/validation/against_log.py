"""A user's own log: what was predicted for each buffer, beside what was printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.errors import InputError
from llmcalc.model.inventory import Inventory
from llmcalc.units import MIB
from llmcalc.validation.filetype import FileType, file_type_of
from llmcalc.validation.loads import Load, Log
from llmcalc.validation.records import Line
from llmcalc.validation.told import (
    GRAPHS_FROM,
    WORDS,
    dated,
    device_of,
    gpus_of,
    number_of,
    open_of,
    options_of,
)

ITEMS = {
    "weights": "weights",
    "kv_cache": "kv_cache",
    "kv_swa": "kv_cache",
    "state": "state",
    "compute": "activations",
    "output": "host_logits",
}
"""Items of the estimate for each kind of line."""

GUESSED = ("draft", "draft_max", "override_tensor", "tensor_split")
"""Options that the log shows only by what they do; a model that can't have them is taken without."""

MOVED, MOVED_UNTYPED = 0.02, 0.06
"""More of the weights on the host than predicted, by this share: tensors were put elsewhere. Shares depend a
little on the file's type, where that is not told. [-]"""

CUT = 0.93
"""Where printed weights add up to less than this share of the file, lines are missing; prediction layers that
are not loaded take up to some 4 % of a file. [-]"""

NEAR = 0.002
"""Weights that differ by less lie as printed. [-]"""

SCRATCH = "The buffers of 2023 are not modelled: one scratch buffer, sized by tables of that time."
FORK = "The compute and output buffers of ik_llama.cpp are its own, and not modelled."
ENGINE = "Caches and compute buffers of Ollama's own engine are not llama.cpp's, and not modelled."
IDLE = "What a GPU takes though no layer lies on it is not modelled."
DRY = "The log is of a pass that only measures: it prints 0 for what it does not load."
STATED = "What builds of mid-2023 required holds scratch buffers beside weights."
HALF = "The log shows one of two caches, of layers with and without a window: a part of it is missing."
PARTIAL = "The weights printed do not add up to the file: lines are missing, perhaps of whole GPUs."
SNAPSHOTS = "The log keeps snapshots of states for drafting, which llmcalc does not know of this model."
TURNED = "The cache holds its latents once more, transposed (-mla 1 of ik_llama.cpp): not modelled."
EMBEDS = (
    "A program that also gives embeddings, such as Ollama, keeps a row of them beside each slot's logits."
)
SPAN = "A file mapped into memory is counted from the first to the last tensor that stays there."


class Compared:
    """One line of a log.

    Attributes
    ----------
    lines : list of Line
        What was printed for the same thing on the same device; added up.
    kind, device : str
        What it holds, and where; ``all`` for a sum over devices.
    printed, predicted : float
        Sizes; None where nothing is predicted. [MiB]
    open : list of str
        Options that would settle it.
    why : str
        Why nothing is predicted, where no option would help.
    """

    __slots__ = ("device", "kind", "lines", "open", "predicted", "printed", "why")

    def __init__(
        self, kind: str, device: str, lines: list[Line], predicted: float | None, open_: list[str]
    ) -> None:
        self.kind, self.device, self.lines, self.predicted = kind, device, lines, predicted
        self.printed = sum(line.mib for line in lines)
        self.open, self.why = open_, ""

    @property
    def error(self) -> float | None:
        """Relative error; 0 where the prediction, rounded, is what was printed. [-]"""
        if self.predicted is None or not self.printed:
            return None
        if abs(self.predicted - self.printed) <= sum(line.step for line in self.lines) / 2 + 1e-9:
            return 0.0
        return self.predicted / self.printed - 1

    def leave(self, *options: str, why: str = "") -> None:
        """Take the prediction back."""
        self.predicted, self.why = None, why
        self.open += [option for option in options if option not in self.open]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "lines": [line.number for line in self.lines],
            "kind": self.kind,
            "device": self.device,
            "printed_mib": round(self.printed, 3),
            "predicted_mib": None if self.predicted is None else round(self.predicted, 3),
            "error": self.error,
            "open": self.open,
            "why": self.why or None,
        }


def compare_log(
    log: Log, model: Inventory, predict: Callable[..., Any], **more: Any
) -> tuple[list[Compared], Any, list[str]]:
    """Predict the main model of a log and set both side by side.

    Parameters
    ----------
    log : Log
        As read.
    model : Inventory
        What was loaded.
    predict : callable
        `llmcalc.vram`.
    **more
        Keywords that the log does not tell, or that say otherwise.

    Returns
    -------
    tuple
        The lines, the report, and sentences on what is not predicted and what was taken for granted.
    """
    load = log.main
    if load is None:
        raise InputError("The log loads no model.", "Give it from the start of the program.")
    told, file = _told(log, load, model, predict, more)
    era = dated(load) if "engine_version" not in told else None
    given = {name: value for name, value in told.items() if value is not None}
    if era is not None:
        given["engine_version"] = f"b{era[0]}"
    gpus = gpus_of(log, load)

    def report_of(**options: Any) -> Any:
        return _predict(predict, model, gpus, given | options, more)

    report = report_of()
    if "quant" not in told:
        report.header[2] = "file type not told"
    if not {"n_ctx", "context"} & told.keys():
        report.header[4] = "context not told"
    rows = _rows(load, gpus, report, told)
    placed = bool({"n_cpu_moe", "override_tensor"} & more.keys())
    moved = not placed and _is_moved(rows, load, report, gpus, told)
    _take_back(rows, load, report, file)
    if "draft" in told and "draft" not in report.scenario:
        for row in rows:
            if row.kind in ("state", "activations"):
                row.leave(why=SNAPSHOTS)
    hints = []
    if moved:
        for row in rows:
            if row.kind in ("weights", "activations") and not row.why:
                row.leave("override_tensor")
        if "quant" in told and not file.is_other:
            hints = _suggested(rows, load, gpus, lambda n: report_of(n_cpu_moe=n, override_tensor=None))
    return rows, report, _sentences(rows, file, era) + hints


def _told(
    log: Log, load: Load, model: Inventory, predict: Callable[..., Any], more: dict[str, Any]
) -> tuple[dict[str, Any], FileType]:
    """What log and user tell, the user with the last word, as keywords of `llmcalc.vram`; the file's type."""
    told = options_of(log, load) | more
    if "context" in more and "n_ctx" not in more:
        told.pop("n_ctx", None)
    if "n_cpu_moe" in more and "override_tensor" not in more:
        told.pop("override_tensor", None)  # the log shows what that option did
    file = file_type_of(load, model, more.get("quant"), predict)
    if file.quant is not None:
        told["quant"] = file.quant
    elif model.source == "gguf":
        told.setdefault("quant", None)  # the file says it
    return told, file


def _predict(
    predict: Callable[..., Any],
    model: Inventory,
    gpus: list[str],
    given: dict[str, Any],
    more: dict[str, Any],
) -> Any:
    """The report; without what the log only lets us guess, where the model can't have that."""
    fixed = {"engine": "llama.cpp", "pp": len(gpus) or None, "allow_overlong": True}
    try:
        return predict(model, **fixed, **given)
    except InputError:
        sure = {name: value for name, value in given.items() if name not in GUESSED or name in more}
        if sure == given:
            raise
        return predict(model, **fixed, **sure)


def _rows(load: Load, gpus: list[str], report: Any, told: dict[str, Any]) -> list[Compared]:
    """Each kind of line on each device, with what is predicted."""
    held: dict[tuple[str, str], list[Line]] = {}
    drafts = {id(line) for context in load.contexts[1:] for line in context.lines}
    for line in load.counted:
        if line.kind in ITEMS and id(line) not in drafts:
            place = "all" if line.device is None else "host" if line.host else device_of(line.device)
            held.setdefault((ITEMS[line.kind], place), []).append(line)
    layers = load.gpu_layers
    on_host = bool(gpus) and (
        layers is None or layers[0] < layers[1] or report.scenario.get("n_cpu_moe", 0) > 0
    )
    rows = []
    for (kind, place), lines in held.items():
        open_ = open_of(kind, lines, told, on_host)
        value = None if open_ else _predicted(report, kind, place, gpus)
        rows.append(Compared(kind.removeprefix("host_"), place, lines, value, open_))
    return rows


def _predicted(report: Any, kind: str, place: str, gpus: list[str]) -> float | None:
    """What the report says of one buffer. [MiB]"""
    if kind == "host_logits":
        return int(report[kind].amounts[0]) / MIB
    host = int(report[f"host_{kind}"].amounts[0]) if f"host_{kind}" in report.names else 0
    own = [int(amount) for amount in report[kind].amounts]
    if kind == "weights" and "draft_weights" in report.names:  # in the same file and buffer
        own = [one + int(more) for one, more in zip(own, report["draft_weights"].amounts, strict=True)]
    if place == "all":
        return (sum(own) + host) / MIB
    if place == "host":
        return host / MIB
    return own[gpus.index(place)] / MIB if place in gpus and gpus.index(place) < len(own) else None


def _take_back(rows: list[Compared], load: Load, report: Any, file: FileType) -> None:
    """Withdraw what is not modelled, or not comparable."""
    build = number_of(report.scenario.get("engine_version"))
    fork = report.scenario.get("engine_version") == "ik"
    idle = report.scenario.get("gpu_layers") == 0
    cut = _is_cut(load)
    caches = load.context.caches if load.context is not None else []
    turned = any(cache.part("kv^T") for cache in caches)
    half = len({"SWA", "non-SWA"} & {cache.label for cache in caches}) == 1
    for row in rows:
        if load.dry and row.printed == 0:
            row.leave(why=DRY)
        elif cut and row.device != "host":
            row.leave(why=PARTIAL)
        elif row.kind == "weights" and any("per state" in line.text for line in row.lines):
            row.leave(why=STATED)
        elif row.kind == "weights" and file.is_other:
            row.leave(why=file.note)
        elif fork and row.kind in ("activations", "logits"):
            row.leave(why=FORK)
        elif fork and turned and row.kind == "kv_cache":
            row.leave(why=TURNED)
        elif half and row.kind == "kv_cache":
            row.leave(why=HALF)
        elif load.engine == "ollama" and row.kind in ("activations", "kv_cache"):
            row.leave(why=ENGINE)
        elif row.kind != "activations":
            continue
        elif build is not None and build < GRAPHS_FROM:
            row.leave(why=SCRATCH)
        elif idle and row.device not in ("host", "all"):
            row.leave(why=IDLE)
        if row.why:
            row.open = []


def _is_cut(load: Load) -> bool:
    """Whether lines of weights are missing."""
    if load.dry or not load.size_bytes:
        return False
    return load.mib("weights") * MIB < CUT * load.size_bytes


def _is_moved(rows: list[Compared], load: Load, report: Any, gpus: list[str], told: dict[str, Any]) -> bool:
    """Whether a larger share of the weights lies on the host than the options would leave there."""
    weights = [row for row in rows if row.kind == "weights"]
    printed = sum(row.printed for row in weights)
    whole = _predicted(report, "weights", "all", gpus) or 0
    host = sum(row.printed for row in weights if row.device == "host")
    if not gpus or not whole or not host or host == printed or _is_cut(load):
        return False
    own = (_predicted(report, "weights", "host", gpus) or 0) / whole
    if "quant" not in told:
        return host / printed > own + MOVED_UNTYPED
    # A file mapped into memory counts more on the host than lies there: GPUs must have less as well.
    return host / printed > own + MOVED and printed - host < (1 - MOVED / 2) * (1 - own) * whole


def _suggested(rows: list[Compared], load: Load, gpus: list[str], again: Callable[[int], Any]) -> list[str]:
    """The number of layers whose experts would have to stay on the CPU, if that is what was done."""
    printed = sum(row.printed for row in rows if row.kind == "weights" and row.device != "host")

    def on_gpus(n: int) -> float:
        return sum(_predicted(again(n), "weights", gpu, gpus) or 0 for gpu in gpus)

    low, high = 0, load.gpu_layers[1] if load.gpu_layers else 0
    while low < high:  # the fewest layers that leave no more on the GPUs than was printed
        middle = (low + high) // 2
        if on_gpus(middle) <= printed * (1 + NEAR):
            high = middle
        else:
            low = middle + 1
    if low and abs(on_gpus(low) / printed - 1) <= NEAR:
        return [f"With --n-cpu-moe {low} the weights would lie as printed."]
    return []


def _sentences(rows: list[Compared], file: FileType, era: tuple[int, str] | None) -> list[str]:
    """What the reader should know, most helpful first."""
    found = []
    options = [name for name in WORDS if any(name in row.open for row in rows)]
    if options:
        told = [f"{WORDS[name][0]} ({WORDS[name][1]})" for name in options]
        listed = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
        found.append(f"Not predicted, since the log does not tell: {listed}.")
    found += list(dict.fromkeys(row.why for row in rows if row.why))
    if file.note and file.note not in found:
        found.append(file.note)
    if era is not None and any(row.predicted is not None for row in rows):
        found.append(f"The log names no build; by its words it is taken to be of {era[1]}.")
    if any(row.kind == "logits" and (row.error or 0) < 0 for row in rows):
        found.append(EMBEDS)
    if any(row.error and row.device == "host" and "_Mapped" in row.lines[0].text for row in rows):
        found.append(SPAN)
    return found
