"""Layouts of a number of GPUs: one table in every format."""

from __future__ import annotations

import csv
import io
from typing import Any

from llmcalc.render.data import SCHEMA, plain
from llmcalc.render.words import VERDICTS, amount, bare, device_name
from llmcalc.units import DISPLAY

SORTED_BY = (
    "surely fits", "least bubble", "fewest tensor and context ranks", "least recomputation",
    "weights not gathered", "least memory",
)  # fmt: skip
"""What decides the order, from the first."""

DEGREES = ("tp", "pp", "vpp", "cp", "ep", "etp", "dp")
SPARE = ("worst rank", "range", "act.")
"""Columns that a narrow terminal does without, the first to go first."""

SHORT = {"distributed optimizer": "dist. opt."}
CLOSE = {"fits": "", "too_close": " ?", "does_not_fit": ""}


def recompute_of(row: Any) -> str:
    """What is computed again, as it is typed."""
    return row.recompute if isinstance(row.recompute, str) else f"every-{row.recompute}"


def _layout(row: Any) -> dict[str, str]:
    """What a layout is, by column."""
    mesh = row.mesh
    found = {name: str(getattr(mesh, name)) for name in DEGREES}
    return {
        **found,
        "sp": "yes" if mesh.sequence_parallel else "no",
        "sharing": SHORT.get(row.sharing, row.sharing or "none"),
        "batch": str(row.batch),
        "recompute": recompute_of(row),
        "micro": f"{mesh.micro_batches:,}",
    }


def _figures(table: Any, row: Any, units: str) -> dict[str, str]:
    """What it comes to, by column."""
    return {
        DISPLAY[units][0]: bare(row.process, units, 1),
        "range": f"{bare(row.process_low, units, 0)}-{bare(row.process_high, units, 0)}",
        "card": f"{100 * row.process / table.device.usable_bytes:.0f} %{CLOSE[row.verdict]}",
        "bubble": f"{100 * row.mesh.bubble:.3g} %",
        "act.": f"{100 * row.activation_share:.0f} %",
        "worst rank": row.rank.partition(",")[0].replace("stage ", ""),
    }


LEFT = ("sp", "sharing", "recompute", "worst rank")
PLAIN = {"vpp": "1", "cp": "1", "ep": "1", "sp": "no", "sharing": "none"}
"""What is not worth a word."""


def columns(table: Any, units: str) -> tuple[list[str], list[list[str]], list[str], list[str]]:
    """Heading, rows, alignments, and what all rows have in common."""
    found = table.shown
    layouts = [_layout(row) for row in found]
    shared, kept = [], []
    for name in layouts[0]:
        values = {layout[name] for layout in layouts}
        if name == "etp" and all(layout["ep"] == "1" for layout in layouts):
            continue
        if len(values) > 1 or (len(layouts) == 1 and name in ("tp", "pp", "dp")):
            kept.append(name)
        elif values != {PLAIN.get(name)}:
            shared.append(_words(name, layouts[0][name]))
    figures = [_figures(table, row, units) for row in found]
    alone = all(row.rank == "all" for row in found)
    head = [*kept, *(name for name in figures[0] if not (alone and name == "worst rank"))]
    rows = [
        [({**layout, **own})[name] for name in head] for layout, own in zip(layouts, figures, strict=True)
    ]
    return head, rows, ["left" if name in LEFT else "right" for name in head], shared


def _words(name: str, value: str) -> str:
    """A column that is the same in all rows."""
    words = {
        "sp": "sequence parallel", "sharing": value, "batch": f"micro-batches of {value}",
        "recompute": f"recompute {value}", "micro": f"{value} micro-batches",
    }  # fmt: skip
    return words.get(name, f"{name} {value}")


def notes(table: Any, units: str, shared: list[str]) -> list[str]:
    """What stands below the table."""
    fits, close = table.number("fits"), table.number("too_close")
    usable = amount(table.device.usable_bytes, units)
    told = f"{len(table.found):,} layouts were estimated: {fits:,} surely fit"
    told += f", {close:,} are too close to call" if close else ""
    lines = [f"In all of them: {', '.join(shared)}."] if shared else []
    lines.append(f"{told}; {device_name(table)} with {usable} usable each ({table.device.basis}).")
    if table.fitting:
        shown = len(table.shown)
        more = f"Here are {shown:,}, of each set of degrees the best. " if shown < len(table.fitting) else ""
        lines.append(f"{more}Sorted by: {', '.join(SORTED_BY)}.")
    else:
        lines.append("None fits: these need least memory.")
    rough = sum(row.quick for row in table.fitting)
    if rough:
        lines.append(
            f"Of {rough:,} that are not shown the allocator was not played through: train may tell some per "
            "cent more or less."
        )
    lines.append(
        "Memory is that of the worst rank, expected, with its range and its share of the card; act. is the "
        "share of activations in it; micro, the micro-batches of a step."
    )
    return lines


def as_text(table: Any, units: str, color: bool) -> str:
    """The table for a terminal."""
    from llmcalc.render.grid import grid
    from llmcalc.render.text import WIDTH, paint, wrap

    head, rows, align, shared = columns(table, units)
    found = table.shown

    def painted(number: int, column: str, text: str) -> str:
        return paint(text, found[number].verdict, color) if column == "card" else text

    lines = []
    line = table.header[0]
    for phrase in table.header[1:]:
        if len(line) + 3 + len(phrase) > WIDTH:
            lines.append(line)
            line = f"  {phrase}"
        else:
            line += f"   {phrase}"
    lines += [line, ""]
    lines += [f"  {one}".rstrip() for one in grid(head, rows, align, WIDTH - 2, SPARE, painted)]
    lines.append("")
    for note in notes(table, units, shared):
        first, *rest = wrap(note, WIDTH - 4)
        lines += [f"  {first}", *[f"  {more}" for more in rest]]
    lines += ["", f"  {table.train_call(found[0]).shown()}"]
    return "\n".join(lines) + "\n"


def as_table(table: Any, kind: str, units: str) -> str:
    """The table for a document."""
    if kind == "csv":
        return _csv(table)
    from tabulate import tabulate

    from llmcalc.render.table import FORMATS, framed

    head, rows, align, shared = columns(table, units)
    made = tabulate(rows, head, tablefmt=FORMATS[kind], disable_numparse=True, colalign=align)
    below = [*notes(table, units, shared), *table.warnings, reproduced(table)]
    return framed(kind, "   ".join(table.header), made, below)


def reproduced(table: Any) -> str:
    """The line that lets a reader repeat the table."""
    return f"{table.call.shown()} (llmcalc {table.version}, catalog {table.catalog_date})"


def row_as_dict(table: Any, row: Any) -> dict[str, Any]:
    """One layout with plain values."""
    mesh = row.mesh
    return {
        **{name: getattr(mesh, name) for name in DEGREES},
        "sequence_parallel": mesh.sequence_parallel,
        "schedule": mesh.schedule,
        "sharing": row.sharing or "none",
        "micro_batch": row.batch,
        "micro_batches": mesh.micro_batches,
        "global_batch": row.batch * mesh.dp * mesh.micro_batches,
        "recompute": recompute_of(row),
        "total_bytes": row.total,
        "range_bytes": [row.low, row.high],
        "process_bytes": row.process,
        "share_of_card": round(row.process / table.device.usable_bytes, 4),
        "headroom_bytes": table.device.usable_bytes - row.process,
        "verdict": row.verdict,
        "worst_rank": row.rank,
        "peak_phase": row.phase,
        "bubble": round(mesh.bubble, 4),
        "activation_share": round(row.activation_share, 4),
        "refined": not row.quick,
        "keywords": row.keywords,
    }


def as_dict(table: Any) -> dict[str, Any]:
    """The contract's object: every layout that fits, or where none does those that need least."""
    device, shown = table.device, table.shown
    rows = table.fitting or shown
    made: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "command": table.command,
            "model": table.model,
            "scenario": table.scenario,
            "device": {
                "name": device.name,
                "count": table.gpus,
                "memory_bytes": device.memory_bytes,
                "usable_bytes": device.usable_bytes,
                "usable_range_bytes": [device.usable_low, device.usable_high],
                "basis": device.basis,
            },
            "searched": table.searched,
            "estimated": len(table.found),
            "refused": table.refused,
            "verdicts": {verdict: table.number(verdict) for verdict in VERDICTS},
            "verdict": table.verdict,
            "sorted_by": list(SORTED_BY),
            "layouts": [row_as_dict(table, row) for row in rows],
            "warnings": table.warnings,
            "llmcalc": {
                "version": table.version,
                "catalog": table.catalog_date,
                "call": table.call.shown(),
            },
        }
    )
    return made


def _csv(table: Any) -> str:
    """A row for each layout that fits, in bytes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    shown = table.shown
    found = [row_as_dict(table, row) for row in table.fitting or shown]
    keys = [key for key in found[0] if key not in ("keywords", "range_bytes")]
    place = keys.index("total_bytes") + 1
    writer.writerow(["model", "gpu", *keys[:place], "low_bytes", "high_bytes", *keys[place:]])
    for row in found:
        cells = [row[key] for key in keys]
        writer.writerow(
            [table.model["name"], table.device.name, *cells[:place], *row["range_bytes"], *cells[place:]]
        )
    return out.getvalue()


EXPLAINED = (
    ("memory", "of the worst class of ranks at the peak, as llmcalc train tells it of the layout: states as "
     "they are shared, what the micro-batches under way keep, temporaries, and the process around them"),
    ("card", "that over what a process can take of the card; ? where the range straddles it"),
    ("bubble", "(pp - 1) / (vpp x micro-batches): a stage's waiting time over its working time (Narayanan et "
     "al. 2021, section 2.2)"),
    ("act.", "what is kept for the backward pass, of all that the worst rank holds at its peak"),
    ("micro", "micro-batches of a step: global batch / (dp x micro-batch)"),
    ("order", "what surely fits first; then the smaller bubble; then tp x cp, whose ranks exchange "
     "activations in every layer; then what is computed twice; then weights that need no gathering; then "
     "memory"),
)  # fmt: skip


def as_explanation(table: Any) -> str:
    """What each column is."""
    from llmcalc.render.text import wrap

    lines = []
    for name, text in EXPLAINED:
        first, *rest = wrap(text, 66)
        lines += [f"  {name:<10}{first}", *(f"{'':<12}{more}" for more in rest)]
    tried = {key: values for key, values in table.searched.items() if len(values) > 1}
    lines.append("  tried")
    for key, values in tried.items():
        told = ", ".join(str(one) if not isinstance(one, dict) else _option(one) for one in values)
        first, *rest = wrap(told, 58)
        lines += [f"    {key:<18}{first}", *(f"{'':<22}{more}" for more in rest)]
    return "\n".join(lines) + "\n"


def _option(one: dict[str, Any]) -> str:
    return " ".join(f"{key} {value}" for key, value in one.items()) or "none"
