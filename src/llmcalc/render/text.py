"""The terminal: 80 columns, clear without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.formula import is_array
from llmcalc.render.training import capacity_lines, note_of, peak_line, rank_lines
from llmcalc.render.words import (
    VERDICTS,
    amount,
    bare,
    device_name,
    label,
    verdict_of,
    visible,
)
from llmcalc.units import DISPLAY, GIB, MIB, format_bytes

WIDTH = 80
BAR = 10
LEAST_NOTE = 12
RULE = "  " + "-" * (WIDTH - 4)
COLORS = {"fits": "32", "does_not_fit": "31", "too_close": "33"}


def as_text(reports: Sequence[Any], units: str = "gib", color: bool = False) -> str:
    """One report as a block; several as one table under the first one's heading."""
    if len(reports) > 1 or reports[0].scheme:
        return _comparison(reports, units, color)
    report = reports[0]
    lines = [*_heading([*report.header, *report.placement]), "", *_items(report, units), RULE]
    lines += [*_total(report, units), ""]
    lines += _requests(report, units, color)
    if report.rl is not None:
        from llmcalc.render.rl import rl_lines

        lines += rl_lines(report, units)
    lines += _device(report, units, color) if report.device is not None else _cards(report)
    lines += _neighbours(report, units)
    lines += _nearest(report)
    if report.inventory is not None:
        lines += _conventions(report.inventory)
    return "\n".join(_trim(lines)) + "\n"


def _trim(lines: list[str]) -> list[str]:
    while lines and not lines[-1]:
        lines.pop()
    return [line.rstrip() for line in lines]


def _heading(phrases: Sequence[str]) -> list[str]:
    """The echo of what was understood, wrapped at phrases."""
    lines, line = [], ""
    for phrase in phrases:
        if line and len(line) + 3 + len(phrase) > WIDTH:
            lines.append(line)
            line = "  " + phrase
        else:
            line = f"{line}   {phrase}" if line else phrase
    return [*lines, line]


def wrap(text: str, width: int) -> list[str]:
    """Break a note at spaces."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def _shown(report: Any) -> tuple[list[Any], Any]:
    """Items of the device and their total; those of the host where nothing is on a device."""
    shown = visible(report)
    if not is_array(report.total_bytes) and not report.total_bytes and report.host_bytes:
        return [item for item in shown if item.where == "host"], report.host_bytes
    return [item for item in shown if item.where == "device"], report.total_bytes


def _items(report: Any, units: str) -> list[str]:
    shown, whole = _shown(report)
    unit = DISPLAY[units][0]
    names = [label(report, item) for item in shown]
    values = [bare(item.bytes_at_peak, units) for item in shown]
    name_width = max(14, *map(len, names))
    value_width = max(6, *map(len, values))
    total = whole
    bars = not is_array(total)
    unit_width = len(unit) + 1
    graded = max(7, *(len(item.grade) for item in shown)) + 1
    note_width = WIDTH - 2 - name_width - 1 - value_width - 1 - unit_width - (BAR + 2 if bars else 1) - graded
    note_width = max(note_width, LEAST_NOTE)  # a long name makes long lines, not none
    lines = []
    for index, (item, name, value) in enumerate(zip(shown, names, values, strict=True)):
        part = ""
        if bars:
            filled = round(BAR * item.bytes_at_peak / total) if total else 0
            part = ("#" * max(filled, 1 if item.bytes_at_peak else 0)).ljust(BAR + 1)
        notes = wrap(note_of(item, units) if report.command == "train" else item.note, note_width)
        mark = unit if index == 0 else ""
        lines.append(
            f"  {name:<{name_width}} {value:>{value_width}} {mark:<{unit_width}}{part} "
            f"{notes[0]:<{note_width}} {item.grade}"
        )
        indent = " " * (2 + name_width + 1 + value_width + 1 + unit_width + len(part) + 1)
        lines += [f"{indent}{note}" for note in notes[1:]]
    return lines


def _total(report: Any, units: str) -> list[str]:
    total, (low, high) = report.total_bytes, report.range_bytes
    if not is_array(total) and not total and report.host_bytes:
        host = report.host_bytes
        return [f"  {'host':<14} {amount(host, units)}   ({format_bytes(host, 'gb')})   nothing on a GPU"]
    text = f"  {'total':<14} {amount(total, units)}"
    if not is_array(total):
        if units != "gb":
            text += f"   ({format_bytes(total, 'gb')})"
        span = f"   range {bare(low, units)} to {amount(high, units)}" if low != high else ""
        lines = [text + span] if len(text + span) <= WIDTH else [text, f"  {'':<14}{span[2:]}"]
    else:
        lines = [text]
    runtime = [item for item in report.items if item.name == "runtime"]
    if is_array(report.host_bytes) or report.host_bytes:
        lines += _host(report, units)
    elif runtime:
        words = "the architecture's need, no runtime"
        if report.scenario.get("engine") == "mlx":
            words = "what MLX itself reports as its peak"
        if report.command == "train":
            words = "tensors alone, as allocated"
        name = "tensors" if report.command == "train" else "minimum"
        lines.append(f"  {name:<14} {amount(report.minimum_bytes, units)}   {words}")
    if report.command == "train":
        lines.append(peak_line(report))
    if report.gpus > 1:
        lines.append(f"  per GPU, on rank {_where(report.peak.rank)}; {report.gpus} GPUs in all")
    lines += [f"  {line}" for line in rank_lines(report, units)]
    return lines


def _host(report: Any, units: str) -> list[str]:
    """What lies in the machine's own memory, and what of."""
    parts = [
        f"{label(report, item).removesuffix(' (host)')} {bare(item.bytes, units)}"
        for item in report.items
        if item.where == "host" and (is_array(item.bytes) or item.bytes >= MIB)
    ]
    lines = wrap(f"{amount(report.host_bytes, units)}   {', '.join(parts)}", WIDTH - 17)
    return [f"  {'host':<14} {lines[0]}", *[f"{'':<17}{line}" for line in lines[1:]]]


def _where(rank: Any) -> str:
    return rank if isinstance(rank, str) else "varying with the input"


def paint(text: str, verdict: Any, color: bool) -> str:
    """A verdict in its colour."""
    return f"\x1b[{COLORS[verdict]}m{text}\x1b[0m" if color and isinstance(verdict, str) else text


def _device(report: Any, units: str, color: bool) -> list[str]:
    device = report.device
    memory = f"{amount(device.memory_bytes, units)} ({device.memory_bytes / MIB:,.0f} MiB)"
    lines = [f"  {device_name(report):<16} {memory}, {amount(device.usable_bytes, units)} usable"]
    headroom = report.headroom_bytes
    verdict = paint(verdict_of(report), report.verdict, color)
    if is_array(headroom):
        lines.append(f"  {'verdict':<16} {verdict}")
    else:
        room = f"{amount(headroom, units)} free" if headroom >= 0 else f"{amount(-headroom, units)} missing"
        room = report.refusal or room
        lines.append(f"  {'verdict':<16} {verdict}, {room}")
    lines += [] if report.missing_bytes else _capacity(report, units)  # none of a server that does not run
    lines += _hardware(report)
    wrapped = [part for line in report.advice for part in wrap(line, WIDTH - 19)]
    lines += [f"  {'' if place else 'advice':<16} {line}" for place, line in enumerate(wrapped)]
    return lines


def _capacity(report: Any, units: str) -> list[str]:
    """What fits beside the rest; of an engine with a pool its three capacities by name."""
    if report.command == "train":
        return capacity_lines(report)
    capacity, lines = report.capacity, []
    if capacity is not None and not is_array(capacity.max_context):
        lines.append(f"  {'longest context':<16} {_longest(report)}")
        if capacity.max_concurrency is not None and not is_array(capacity.max_concurrency):
            most = f"{capacity.max_concurrency:,} of {report.scenario['context']:,} tokens"
            if len(report.workload.get("cases", [])) > 1:
                most = f"{capacity.max_concurrency:,} requests like these, at the 95th percentile"
            lines.append(f"  {'most sequences':<16} {most}{' as placed' if report.as_placed else ''}")
    if getattr(capacity, "pool_tokens", None) is None:
        return lines
    budget = capacity.kv_budget_bytes
    if budget <= 0:
        lines.append(f"  {'KV pool':<16} none: {amount(-budget, units)} missing before its first page")
        return lines
    lines.append(_pool(capacity, amount(budget, units)))
    if capacity.longest_request is not None:
        alone = f"{capacity.longest_request:,} tokens, alone in the pool"
        told = alone if capacity.longest_request else "none: the pool is too small for any"
        lines.append(f"  {'longest request':<16} {told}")
    return lines


def _pool(capacity: Any, size: str) -> str:
    """The pool in tokens; of a model that remembers states alone, in these."""
    if capacity.kv_bytes_per_token:
        held = f"{size}, {capacity.pool_tokens:,} tokens as the log counts; {capacity.concurrency:.2f}x"
        return f"  {'KV pool':<16} {held}"
    slots = getattr(capacity, "state_slots", None)
    held = f"{slots:,} states" if slots is not None else "states alone"
    return f"  {'state pool':<16} {size}, {held}; {capacity.concurrency:.2f}x"


PLACED = ("tp", "pp", "cp", "ep", "dp")
"""Degrees that are told of a placement."""


def _hardware(report: Any) -> list[str]:
    """The fewest GPUs of this type, and the smallest single cards."""
    lines = []
    if report.fewest is not None:
        found = report.fewest
        words = [f"{name} {found[name]}" for name in PLACED if found.get(name, 1) > 1]
        placed = ", ".join([*words, *([found["sharing"]] if found.get("sharing") else [])])
        text = f"{found['gpus']}{f' ({placed})' if placed else ''}"
        text += " with all layers on them" if report.scenario.get("fit") else ""
        if found["close"] is not None:
            text += f"; {found['close']} is too close to call"
        lines.append(f"  {'fewest GPUs':<16} {text}")
    if report.cards:
        names = ", ".join(f"{name} ({memory / GIB:.0f} GiB)" for name, memory in report.cards)
        parts = wrap(names, WIDTH - 19)
        lines += [f"  {'' if place else 'smallest card':<16} {part}" for place, part in enumerate(parts)]
    return lines


def _requests(report: Any, units: str, color: bool) -> list[str]:
    """What requests that vary need in each case, with a verdict of its own."""
    cases = report.workload.get("cases", [])
    if len({str(row["total_bytes"]) for row in cases if row["case"] != "over_time"}) < 2:
        return []
    names = {"p95": "95th percentile", "over_time": "over time, mean"}
    unit = DISPLAY[units][0]
    head = f"  {'requests':<16} {f'KV, state {unit}':>20} {f'total {unit}':>20}"
    lines = [head + ("   verdict" if report.device is not None else "")]
    for row in cases:
        verdict = VERDICTS.get(row["verdict"], "")
        lines.append(
            f"  {names.get(row['case'], row['case']):<16} {bare(row['cache_bytes'], units):>20} "
            f"{bare(row['total_bytes'], units):>20}   {paint(verdict, row['verdict'], color)}"
        )
    return [*lines, ""]


def _longest(report: Any) -> str:
    capacity, limit = report.capacity, report.context_limit
    longest, safe = capacity.max_context, capacity.safe_context
    if longest is None:
        return "any: its memory does not grow with the context"
    if longest <= 0:
        return "none: the rest leaves no room"
    text = f"{longest:,} tokens"
    if limit is not None and longest >= limit:
        text += " (the model's limit)"
    elif report.as_placed:
        text += " as placed"
    if safe is not None and safe < longest:
        text += f"; {safe:,} to be safe" if safe else "; none to be safe"
    return text


def _cards(report: Any) -> list[str]:
    if not report.cards:
        return []
    names = ", ".join(f"{name} ({memory / GIB:.2f} GiB)" for name, memory in report.cards)
    lines = wrap(f"Smallest common cards that surely hold it: {names}.", WIDTH - 4)
    return [f"  {line}" for line in lines]


def _nearest(report: Any) -> list[str]:
    """The published run that is nearest, with what llmcalc predicts for it."""
    run = report.nearest
    if run is None:
        return []
    unit = f" {run['unit']}" if run["unit"] else ""
    build = "" if run["build"] == "not printed" else f" in {run['build']}"
    ranks = f", tp {run['tp']}" if run["tp"] > 1 else ""
    quant = f", {run['quant']}" if run["quant"] else ""
    digits = 0 if run["unit"] in ("tokens", "B") else 2
    place = run["source"].removeprefix("https://")
    if "://" in run["source"]:
        place = "/".join(place.split("/")[:5])  # the whole address is in --json
    measured, predicted = (f"{run[name]:,.{digits}f}" for name in ("measured", "predicted"))
    text = (
        f"{run['quantity']} {measured}{unit} measured, {predicted} predicted: "
        f"{run['model']}{quant}{ranks}{build} ({run['run']}: {place})"
    )
    lines = wrap(text, WIDTH - 19)
    return [f"  {'' if place else 'nearest run':<16} {line}" for place, line in enumerate(lines)]


def _neighbours(report: Any, units: str) -> list[str]:
    if not report.neighbours:
        return []
    totals = [total for _, total in report.neighbours]
    bits = report.scenario["bits"]
    smallest, largest = (
        min(report.neighbours, key=lambda row: row[1]),
        max(report.neighbours, key=lambda row: row[1]),
    )
    nearest = report.neighbours[0][0]
    lines = wrap(
        f"{len(totals)} real models of this size at {bits:g} bits with 4,096 tokens of 16-bit KV cache and a "
        f"runtime: {bare(min(totals), units)} to {amount(max(totals), units)} "
        f"({smallest[0]}, {largest[0]}).",
        WIDTH - 4,
    )
    return [
        *[f"  {line}" for line in lines],
        "  Name the model for an exact figure:",
        f"    llmcalc vram {nearest} {_near(bits, report.scenario.get('quant'))}",
    ]


def _near(bits: float, quant: str | None) -> str:
    """The option that prices a named model alike: its scheme, else one near a number of bits."""
    if quant is not None:
        return f"--quant {quant}"
    schemes = {2: "q2_k", 3: "q3_k_m", 4: "q4_k_m", 5: "q5_k_m", 6: "q6_k", 8: "q8_0"}
    return f"--quant {schemes[int(bits)]}" if bits in schemes else f"--bits {bits:g}"


def _stored(inventory: Any) -> list[tuple[str, int, str]]:
    """What the checkpoint holds beyond the model, tag by tag, and what nobody has explained."""
    if inventory.stored_params == inventory.params:
        return []
    published = "as published" if inventory.published else "all tensors known of"
    rows = [("stored", inventory.stored_params, published)]
    words = {"mtp": "prediction modules", "buffer": "buffers", "scale": "scales", "duplicate": "saved twice"}
    held = {tag: sum(own.values()) for tag, own in inventory.breakdown("tag", stored=True).items()}
    packed = held.pop("main") - inventory.params
    if packed:
        rows.append(("  packed", packed, "elements share words"))
    rows += [(f"  {tag}", number, words[tag]) for tag, number in held.items() if number]
    if inventory.unexplained_params:
        label = "  explained" if inventory.stored_note else "  unexplained"
        rows.append((label, inventory.unexplained_params, inventory.stored_note or "beyond all of these"))
    return rows


def _conventions(inventory: Any) -> list[str]:
    """Counts under the names people use for them."""
    rows = [("parameters", inventory.params, "unique, tied tensors once")]
    roles = inventory.by_role()
    embedding = roles.get("embedding", 0) + roles.get("position", 0)
    if not inventory.is_opaque:
        rows.append(("without embedding", inventory.params - embedding, "Kaplan's N"))
        head = roles.get("unembedding", 0)
        if head:
            rows.append(
                ("without both", inventory.params - embedding - head, "neither embedding nor unembedding")
            )
    if inventory.routed_params:
        rows.append(("routed experts", inventory.routed_params, "all of them"))
        rows.append(("active", inventory.active_params, "per token, embeddings included"))
    rows += _stored(inventory)
    lines = []
    for name, number, note in rows:
        first, *more = wrap(note, WIDTH - 47)
        lines += [f"  {name:<18} {number:>23,}   {first}", *[" " * 47 + line for line in more]]
    return lines


def _comparison(reports: Sequence[Any], units: str, color: bool) -> str:
    """Several reports: one row each."""
    from llmcalc.render.grid import grid
    from llmcalc.render.rows import SPARE, comparison, hardware_notes, heading

    head, rows, align = comparison(reports, units)
    lines = [*_heading(heading(reports)), ""] if len({r.model["name"] for r in reports}) == 1 else []
    spare = SPARE if reports[0].scheme and reports[0].scheme["fits"] else SPARE[1:]

    def painted(number: int, column: str, text: str) -> str:
        return paint(text, reports[number].verdict, color) if column == "verdict" else text

    lines += [f"  {line}".rstrip() for line in grid(head, rows, align, WIDTH - 2, spare, painted)]
    notes = hardware_notes(reports)
    for note in notes:
        first, *rest = wrap(note, WIDTH - 4)
        lines += ["", f"  {first}", *[f"    {line}" for line in rest]] if note is notes[0] else [
            f"  {first}", *[f"    {line}" for line in rest]
        ]  # fmt: skip
    lines += _advised(reports)
    return "\n".join(_trim(lines)) + "\n"


def _advised(reports: Sequence[Any]) -> list[str]:
    """What `fit` found for the GPUs that do not surely hold it."""
    lines: list[str] = []
    for report in reports:
        if report.command != "fit" or report.verdict == "fits" or not report.advice:
            continue
        lines += ["", f"  {device_name(report)}:"]
        for line in [" ".join(part.split()) for part in _hardware(report)[:1]] + report.advice[:3]:
            first, *rest = wrap(line, WIDTH - 6)
            lines += [f"    {first}", *[f"      {part}" for part in rest]]
    return lines
