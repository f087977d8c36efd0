"""What the catalog commands share: list, search, show, in every format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmcalc.catalog import Catalog, fold
from llmcalc.cli.options import FORMATS, choose, write
from llmcalc.errors import InputError

WIDTH = 80

TABLES = {"markdown": "github", "latex": "latex_booktabs", "html": "html"}

Row = dict[str, Any]


def matches(entry: Row, word: str) -> bool:
    """Whether a word stands in a name, an alias, the id, the maker or the family."""
    config = entry.get("config") or {}
    texts = [
        entry["name"], *entry.get("aliases", []), entry.get("hf", ""), entry.get("organisation", ""),
        entry.get("vendor", ""), entry.get("architecture", ""), config.get("model_type", ""),
    ]  # fmt: skip
    wanted = fold(word)
    return any(_found(wanted, str(text)) for text in texts if text)


def _found(wanted: str, text: str) -> bool:
    """Whether a folded word starts at a word of the text; four letters or more may stand anywhere."""
    words = text.lower().replace("/", " ").replace("-", " ").replace("_", " ").split()
    starts = (fold("".join(words[index:])) for index in range(len(words)))
    return any(start.startswith(wanted) for start in starts) or (len(wanted) > 3 and wanted in fold(text))


def catalog_of(files: Sequence[str]) -> Catalog:
    """The catalogs, with the user's own."""
    return Catalog(list(files))


def show_list(
    rows: list[Row], options: dict[str, Any], what: str, search: str | None,
    spare: Sequence[str] = (), wrapped: Sequence[str] = (),
) -> int:  # fmt: skip
    """Print a list of flat rows in the chosen format.

    Where a terminal is too narrow it lacks the columns in `spare`, and the cells of those in `wrapped` break;
    names never do.
    """
    kind = "json" if options["json_"] else choose(options["format_"], FORMATS, "--format")
    if not rows:
        hint = f" match {search!r}" if search else " match the filters"
        raise InputError(f"No {what}{hint}.", f"llmcalc {what} lists all.")
    if kind == "json":
        from llmcalc.render.data import dumps

        write(dumps({"schema": 1, "command": what, "rows": rows}), options["output_file"])
        return 0
    write(_table(rows, kind, spare, wrapped) + _made_by(options, what, kind), options["output_file"])
    if kind == "text":
        import click

        noun = what if len(rows) != 1 else what.removesuffix("s")
        details = "" if what == "tensors" else f" Details: llmcalc {what} show NAME"
        click.echo(f"{len(rows)} {noun}.{details}", err=True)
    return 0


def _made_by(options: dict[str, Any], what: str, kind: str) -> str:
    """The line that lets a reader of a document repeat a table."""
    if kind in ("text", "csv"):
        return ""
    from llmcalc._version import __version__

    filters = {
        k: v for k, v in options.items() if v and k not in ("json_", "format_", "output_file", "catalog")
    }
    words = [f"--{k.replace('_', '-')}" + ("" if v is True else f" {v}") for k, v in filters.items()]
    date = Catalog().date("models" if what == "tensors" else what)
    made = f"{' '.join(['llmcalc', what, *words])} (llmcalc {__version__}, catalog {date})"
    return {"markdown": f"\n<sub>{made}</sub>\n", "html": f"<p><small>{made}</small></p>\n"}.get(
        kind, f"\\par\\footnotesize {made}\n"
    )


def _table(rows: list[Row], kind: str, spare: Sequence[str] = (), wrapped: Sequence[str] = ()) -> str:
    head = list(rows[0])
    cells = [["" if row[key] is None else row[key] for key in head] for row in rows]
    if kind == "csv":
        import csv
        import io

        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([head, *cells])
        return out.getvalue()
    formatted = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in cells]
    align = ["right" if any(isinstance(row[key], (int, float)) for row in rows) else "left" for key in head]
    if kind == "text":
        from llmcalc.render.grid import grid

        empty = [key for place, key in enumerate(head) if not any(row[place] for row in formatted)]
        width = WIDTH if spare or wrapped else 1 << 20
        lines = grid(head, formatted, align, width, [*empty, *spare], wrapped=wrapped, split=False)
        return "\n".join(lines) + "\n"
    from tabulate import tabulate

    return tabulate(formatted, head, tablefmt=TABLES[kind], disable_numparse=True, colalign=align) + "\n"


Sources = Callable[[str], "Row | None"]
"""Finds the entry of a source by its id."""


def show_entry(entry: Row, extra: Row, options: dict[str, Any], what: str, sources: Sources) -> int:
    """Print one entry with every field and its sources in full."""
    return show_entries([(entry, extra)], options, what, sources)


def show_entries(
    found: Sequence[tuple[Row, Row]], options: dict[str, Any], what: str, sources: Sources
) -> int:
    """Print the entries that a name stands for, each with every field and its sources in full."""
    kind = "json" if options["json_"] else choose(options["format_"], FORMATS, "--format")
    shown = [(entry, extra, _cited(entry, sources)) for entry, extra in found]
    if kind == "json":
        from llmcalc.render.data import dumps

        dicts = [{"entry": entry, **extra, "sources": cited} for entry, extra, cited in shown]
        more = {"more": dicts[1:]} if len(dicts) > 1 else {}
        write(dumps({"schema": 1, "command": what, **dicts[0], **more}), options["output_file"])
        return 0
    tables = []
    for entry, extra, cited in shown:
        rows: list[Row] = []
        for key, value in {**entry, **extra}.items():
            rows += _flat(key, value)
        rows += [
            {"field": f"source {name}", "value": f"{one['title']}; {one['reference']}"}
            for name, one in cited.items()
        ]
        tables.append(_table(rows, kind, wrapped=("value",)))
    write("\n".join(tables), options["output_file"])
    return 0


def _flat(key: str, value: Any) -> list[Row]:
    if isinstance(value, dict):
        return [row for name, one in value.items() for row in _flat(f"{key}.{name}", one)]
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return [row for number, one in enumerate(value) for row in _flat(f"{key}.{number}", one)]
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return [{"field": key, "value": str(value)}]


def _cited(entry: Row, sources: Callable[[str], Row | None]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    raw = entry.get("sources") or []
    texts: list[Any] = []
    for value in raw.values() if isinstance(raw, dict) else raw:
        texts += value if isinstance(value, list) else [value]
    for text in texts:
        name = str(text).partition(":")[0]
        source = sources(name)
        if source is not None:
            found[name] = {"title": source["title"], "reference": source["reference"]}
    return found
