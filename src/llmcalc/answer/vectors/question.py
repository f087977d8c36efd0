"""`llmcalc.index`, from keywords to a sheet."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.vectors.asked import USUAL, Wanted, kinds_of, read
from llmcalc.answer.vectors.laid import SOURCES, layout, row_of
from llmcalc.errors import InputError, Problems
from llmcalc.memory.vectors.parts import Part
from llmcalc.report.sheet import Fact, Sheet, Table
from llmcalc.units import parse_bytes


def answer(given: dict[str, Any]) -> Sheet:
    """The sheet of a question.

    Raises
    ------
    LlmcalcError
        With every mistake and its remedy.
    """
    wanted = read(given)
    memory = None if given.get("memory") is None else parse_bytes(given["memory"], "--memory")
    if memory == 0:
        raise InputError("--memory is 0; it must be above 0.", "Use a size such as 64GiB.")
    kinds = kinds_of(given.get("index"), wanted)
    problems, laid, left_out = Problems(), [], []
    for kind in kinds:
        with problems:
            laid.append((kind, layout(kind, wanted)))
            continue
        left_out.append(f"{kind} is left out: {problems.found[-1].problem}")
    if not laid or given.get("index") is not None:
        problems.check()
    sheet = Sheet("index", _header(wanted))
    sheet.left_out = left_out
    rows = [row_of(kind, parts, wanted, memory) for kind, parts in laid]
    first = rows[0] if len(rows) == 1 else {}
    sheet.data = {"scenario": wanted.scenario(), **first, "indexes": rows}
    sheet.frame = [
        {key: value for key, value in row.items() if not isinstance(value, (list, dict))} for row in rows
    ]
    sheet.warnings += _warnings(wanted, [kind for kind, _ in laid])
    if len(rows) == 1:
        _one(sheet, laid[0][1], rows[0], wanted)
    else:
        _several(sheet, rows, memory)
    sheet.origins = _origins(wanted)
    sheet.drawing = lambda figure: _draw(figure, rows)
    return sheet


def _draw(figure: Any, rows: list[dict[str, Any]]) -> None:
    from llmcalc.render.index import draw_parts

    draw_parts(figure, rows)


def size(number: float) -> str:
    """Bytes as people read them: GiB, or MiB and KiB where that is little."""
    for name, unit in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= unit:
            return f"{number / unit:,.2f} {name}"
    return f"{number:,.0f} B"


def _header(wanted: Wanted) -> list[str]:
    names = {"fp32": "fp32", "fp16": "halfvec", "binary": "bit"}
    found = [f"{wanted.vectors:,} vectors", f"{wanted.dim:,} x {names[wanted.dtype]}", wanted.store]
    return found + ([f"metric {wanted.metric}"] if wanted.metric != "l2" else [])


def _one(sheet: Sheet, parts: list[Part], row: dict[str, Any], wanted: Wanted) -> None:
    """An index part by part."""
    sheet.header.append(row["factory"] or row["index"])
    low, high = row["range_bytes"]
    span = f"range {size(low)} to {size(high)}; " if size(low) != size(high) else ""
    sheet.facts = [
        Fact(
            "memory",
            size(row["total_bytes"]),
            f"{span}{row['bytes_per_vector']:,.1f} B a vector",
            row["grade"],
        ),
        Fact("disk", size(row["disk_bytes"]), f"{row['disk_bytes']:,} bytes", row["disk_grade"]),
    ]
    if row["growing_bytes"] is not None and row["growing_bytes"] != row["total_bytes"]:
        note = "at most for moments, where vectors are added in batches"
        sheet.facts.append(Fact("while it grows", size(row["growing_bytes"]), note, "derived"))
    if row["most_vectors"] is not None:
        sheet.facts.append(
            Fact("most vectors", f"{row['most_vectors']:,}", "in the memory given", row["grade"])
        )
    head = ["part", "memory", "disk", "how", "grade"]
    cells = [
        [p.name, size(p.memory) if p.memory else "-", size(p.disk) if p.disk else "-", p.note, p.grade]
        for p in parts
    ]
    sheet.tables = [Table("", head, cells, wrapped=("how",))]
    source = SOURCES[wanted.store]
    sheet.explained = [
        *sheet.facts,
        *(
            Fact(
                p.name,
                f"{p.memory:,} B in memory, {p.disk:,} B on disk",
                p.note,
                p.grade,
                p.formula,
                p.inputs,
                "" if p.name.startswith("documents") else source,
            )
            for p in parts
        ),
    ]


def _several(sheet: Sheet, rows: list[dict[str, Any]], memory: int | None) -> None:
    """Indexes beside each other."""
    flat = (
        max(row["total_bytes"] for row in rows if row["index"] in ("flat", "none"))
        if any(row["index"] in ("flat", "none") for row in rows)
        else None
    )
    least = min(rows, key=lambda row: row["total_bytes"])
    sheet.facts = [Fact("least memory", size(least["total_bytes"]), str(least["index"]), least["grade"])]
    head = ["index", "kind", "B a vector", "memory", "disk", "of flat", "grade"]
    cells = []
    for row in rows:
        share = "-" if not flat else f"{100 * row['total_bytes'] / flat:.0f} %"
        cells.append(
            [
                row["index"],
                row["factory"] or "",
                f"{row['bytes_per_vector']:,.1f}",
                size(row["total_bytes"]),
                size(row["disk_bytes"]),
                share,
                row["grade"],
            ]
        )
        if memory is not None:
            cells[-1].insert(5, f"{row['most_vectors']:,}")
    if memory is not None:
        head.insert(5, "most vectors")
    if not any(row["factory"] for row in rows):
        head, cells = [head[0], *head[2:]], [[row[0], *row[2:]] for row in cells]
    sheet.tables = [Table("", head, cells, spare=("of flat", "kind"))]
    sheet.explained = [
        Fact(
            f"{row['index']}, {item['name']}",
            f"{item['memory_bytes']:,} B in memory, {item['disk_bytes']:,} B on disk",
            item["note"],
            item["grade"],
            item["formula"] or "",
            item["inputs"],
            item["source"],
        )
        for row in rows
        for item in row["items"]
    ]


def _origins(wanted: Wanted) -> dict[str, str]:
    own = wanted.origins
    return {
        "vectors": "given",
        "dim": "given",
        "bits": "the code",
        "m": own.get("m", ""),
        "lists": own.get("lists", ""),
        "subvectors": own.get("pq", "given"),
        "value": "the type",
        "level": "most vectors",
        "on_page": "the page",
    }


def _lists(kind: str, wanted: Wanted) -> int:
    """Lists of an inverted file: its own text names them, a name takes those of the question."""
    named = kind[3:].partition("_")[0].partition(",")[0]
    return int(named) if named.isdigit() else wanted.lists


def _warnings(wanted: Wanted, kinds: list[str]) -> list[str]:
    """What would not work well, and what was assumed."""
    found = []
    inverted = [kind for kind in kinds if kind.lower().startswith("ivf")]
    product = [kind for kind in kinds if "pq" in kind.lower() and kind in USUAL["faiss"]]
    if (
        inverted
        and wanted.origins.get("lists") != "given"
        and any(kind in USUAL[wanted.store] for kind in inverted)
    ):
        found.append(f"lists = {wanted.lists:,}: {wanted.origins['lists']}.")
    if product and wanted.origins.get("pq") != "given":
        found.append(f"pq = {wanted.pq:,}: {wanted.origins['pq']}.")
    lists = max((_lists(kind, wanted) for kind in inverted), default=0)
    if wanted.store == "faiss" and wanted.vectors < 39 * lists:
        found.append(
            f"{wanted.vectors:,} vectors are few for {lists:,} lists: faiss asks for 39 a list "
            "to train, and lists"
            " that stay empty may be stored shorter."
        )
    return found
