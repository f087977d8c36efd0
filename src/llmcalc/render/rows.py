"""Several reports as one table: a row a GPU, or a row a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.formula import is_array
from llmcalc.render.words import VERDICTS, bare, device_name, row_name, verdict_of
from llmcalc.units import DISPLAY, format_count

SHORT = {"fits": "fits", "does_not_fit": "no", "too_close": "close", None: "-"}
"""Verdicts in a narrow column."""

Table = tuple[list[str], list[list[str]], list[str]]
"""Heading, rows, and the alignment of each column."""


def comparison(reports: Sequence[Any], units: str) -> Table:
    """The table of several reports: by GPU where the model is one, else by model."""
    if reports[0].scheme:
        return _by_scheme(reports, units)
    if len({report.model["name"] for report in reports}) == 1:
        return _by_gpu(reports, units)
    return _by_model(reports, units)


def gpu_names(reports: Sequence[Any]) -> list[str]:
    """Headings of the GPUs that formats are tried on: ``2 x RTX 3090``."""
    return [
        f"{fit['count']} x {fit['gpu']}" if fit["count"] > 1 else str(fit["gpu"])
        for fit in reports[0].scheme["fits"]
    ]


def _by_scheme(reports: Sequence[Any], units: str) -> Table:
    """The table of formats: bits of the linear layers and overall, size, card, verdict on each GPU."""
    unit, gpus = DISPLAY[units][0], gpu_names(reports)
    head = ["format", "bits/w", "overall", f"weights {unit}", "of 16 bit", "smallest card", *gpus]
    rows = []
    for report in reports:
        scheme = report.scheme
        row = [
            scheme["name"],
            f"{scheme['bits_of_linear_layers']:.2f}",
            f"{scheme['bits']:.2f}",
            bare(scheme["weights_bytes"], units),
            f"{100 * scheme['share_of_16_bit']:.0f} %",
            _card(report),
        ]
        row += [
            SHORT[fit["verdict"]]
            if fit["runs"] or fit["verdict"] == "does_not_fit"
            else f"({SHORT[fit['verdict']]})"
            for fit in scheme["fits"]
        ]
        rows.append(row)
    return head, rows, ["left", *["right"] * 4, *["left"] * (1 + len(gpus))]


SPARE = ("smallest card", "of 16 bit", "overall")
"""Columns that a narrow terminal does without, the first to go first; a card only where GPUs were named."""


def hardware_notes(reports: Sequence[Any]) -> list[str]:
    """What the formats of a table run on, those of one engine together."""
    grouped: dict[str, list[str]] = {}
    for report in reports:
        if report.scheme and report.scheme["hardware"] not in ("", "everything"):
            grouped.setdefault(report.scheme["hardware"], []).append(report.scheme["name"])
    notes = [f"{', '.join(names)}: {hardware}." for hardware, names in grouped.items()]
    fits = [fit for report in reports if report.scheme for fit in report.scheme["fits"]]
    if any(not fit["runs"] and fit["verdict"] != "does_not_fit" for fit in fits):
        notes.append("In parentheses: the memory would do, but the format has no kernels for that card.")
    return notes


def differing(reports: Sequence[Any]) -> bool:
    """Whether rows are about other contexts than the first, as llama-server chooses one for each GPU."""
    told = [(row.scenario.get("context"), row.scenario.get("n_ctx")) for row in reports]
    return not any(is_array(one) for pair in told for one in pair) and len(set(told)) > 1


def heading(reports: Sequence[Any]) -> list[str]:
    """Phrases of the first row's heading that hold for all rows."""
    if not differing(reports):
        return list(reports[0].header)
    return [phrase for phrase in reports[0].header if all(phrase in row.header for row in reports)]


def row_names(reports: Sequence[Any]) -> list[str]:
    """What tells each row from the others: its format, its GPU, its model, or model and GPU."""
    models = {report.model["name"] for report in reports}
    names = []
    for report in reports:
        name = row_name(report) if report.scheme or len(models) == 1 else report.model["name"]
        if len(models) > 1 and len(models) < len(reports) and report.device is not None:
            name += f" on {device_name(report)}"
        names.append(name)
    return names


def notes_of(reports: Sequence[Any], hints: bool = True) -> list[str]:
    """Warnings and hints of all rows, each once, with the names of the rows that it is about."""
    grouped: dict[str, list[str]] = {}
    for report, name in zip(reports, row_names(reports), strict=True):
        for note in dict.fromkeys([*report.warnings, *(report.hints if hints else [])]):
            grouped.setdefault(note, []).append(name)
    notes = []
    for note, names in grouped.items():
        own = [name for name in names if name and name not in note]
        few = ", ".join(own[:3]) + (f" and {len(own) - 3} more" if len(own) > 3 else "")
        everywhere = len(names) == len(reports) and not (len(reports) == 1 and reports[0].scheme)
        notes.append(note if not own or everywhere else f"{few}: {note}")
    return notes + [line for report in reports for line in report.left_out]


def _card(report: Any) -> str:
    """The smallest card that holds it and has kernels for it, with its memory."""
    if not report.cards:
        return "none alone"
    name, memory = report.cards[0]
    return f"{name}, {memory / 2**30:.0f} GiB"


def _verdict(report: Any) -> str:
    return verdict_of(report) if is_array(report.verdict) else VERDICTS[report.verdict]


def _longest(report: Any) -> str:
    capacity = report.capacity
    if capacity is None or is_array(capacity.max_context):
        return "-"
    if capacity.max_context is None:
        return "any"
    more = report.as_placed and 0 < capacity.max_context < (report.context_limit or 0)
    return f"{capacity.max_context:,}{' as placed' if more else ''}"


def _by_gpu(reports: Sequence[Any], units: str) -> Table:
    unit = DISPLAY[units][0]
    longest = "max sequence" if reports[0].command == "train" else "max context"
    head = ["GPU", f"usable {unit}", f"need {unit}", "verdict", f"free {unit}", longest]
    align = ["left", "right", "right", "left", "right", "right"]
    rows = [
        [
            device_name(report),
            bare(report.device.usable_bytes, units),
            bare(report.total_bytes, units),
            _verdict(report),
            bare(report.headroom_bytes, units),
            _longest(report),
        ]
        for report in reports
    ]
    return _with_contexts(reports, head, rows, align)


def _with_contexts(
    reports: Sequence[Any], head: list[str], rows: list[list[str]], align: list[str]
) -> Table:  # fmt: skip
    """A table with the context of each row, where the heading can't tell it."""
    if not differing(reports):
        return head, rows, align
    rows = [[row[0], _context(report), *row[1:]] for row, report in zip(rows, reports, strict=True)]
    return [head[0], "context", *head[1:]], rows, [align[0], "right", *align[1:]]


def _context(report: Any) -> str:
    """Sequences and tokens of a row; of slots that share one cache, its tokens."""
    options = report.scenario
    many, tokens = options.get("sequences"), options.get("context")
    if tokens is None:  # a bare count
        return "-"
    if many == 1:
        return f"{tokens:,}"
    shared = options.get("kv_unified") and options.get("n_ctx") is not None
    return f"{options['n_ctx']:,} for {many:,}" if shared else f"{many:,} x {tokens:,}"


def _by_model(reports: Sequence[Any], units: str) -> Table:
    if reports[0].command == "train":
        return _by_trained(reports, units)
    unit = DISPLAY[units][0]
    placed = any(report.device is not None for report in reports)
    head = ["model", "params", "active", "weights", "KV, state", f"total {unit}"]
    align = ["left", *["right"] * 5]
    rows = []
    for report in reports:
        kept = [report[name].bytes_at_peak for name in ("kv_cache", "state") if name in report.names]
        row = [
            report.model["name"],
            format_count(report.model["params"]),
            format_count(report.model["active_params"]),
            bare(report["weights"].bytes_at_peak, units),
            bare(sum(kept), units) if kept else "-",
            bare(report.total_bytes, units),
        ]
        if placed:
            row += [device_name(report), _verdict(report)] if report.device is not None else ["-", "-"]
        rows.append(row)
    if placed:  # a terminal is too narrow for both
        head, align = [*head[:2], *head[3:], "GPU", "verdict"], [*align[:5], "left", "left"]
        rows = [[*row[:2], *row[3:]] for row in rows]
    return _with_contexts(reports, head, rows, align)


def _by_trained(reports: Sequence[Any], units: str) -> Table:
    """Models that are trained the same way."""
    unit = DISPLAY[units][0]
    head = ["model", "params", "trained", "weights", "states", f"total {unit}", "GPU", "verdict"]
    rows = []
    for report in reports:
        states = sum(report[name].bytes_at_peak for name in ("master_weights", "gradients", "optimizer"))
        rows.append([
            report.model["name"], format_count(report.model["params"]),
            format_count(report.model["trainable_params"]), bare(report["weights"].bytes_at_peak, units),
            bare(states, units), bare(report.total_bytes, units),
            "-" if report.device is None else device_name(report),
            "-" if report.device is None else _verdict(report),
        ])  # fmt: skip
    return head, rows, ["left", *["right"] * 5, "left", "left"]
