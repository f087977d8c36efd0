"""Files of lengths: one a line, or columns ``prompt`` and ``output``, as CSV or JSON."""

from __future__ import annotations

from typing import Any

from llmcalc.demand.lengths import MAX_VALUES, Lengths, counted
from llmcalc.errors import InputError
from llmcalc.units import parse_length, shown

MAX_FILE = 64 << 20
COLUMNS = ("prompt", "output")
AS = "Give one length a line, or columns prompt and output."


def file_lengths(path: str, what: str) -> Lengths:
    """Lengths of a file for one option: its only column, or the one of the option's name."""
    rows = read_rows(path, what)
    column = what.removeprefix("--")
    if "" in rows[0]:
        numbers = [row[""] for row in rows]
    elif column in rows[0]:
        numbers = [row[column] for row in rows]
    else:
        raise InputError(
            f"{what} {path[:200]!r} has no column {column!r}, but {', '.join(map(repr, rows[0]))}.", AS
        )
    return counted(sorted(numbers), f"{len(numbers):,} lengths of {_name(path)}")


def file_pairs(path: str, what: str) -> list[tuple[int, int]] | None:
    """Pairs of prompt and output where a file has both columns; None where it has not."""
    rows = read_rows(path, what)
    if not all(name in rows[0] for name in COLUMNS):
        return None
    return [(row["prompt"], row["output"]) for row in rows]


def _name(path: str) -> str:
    import os

    return os.path.basename(path)


def read_rows(path: str, what: str) -> list[dict[str, int]]:
    """Rows of a file, each by column; ``""`` is the column of a file without names.

    Raises
    ------
    InputError
        If it can't be read, holds no lengths, or something that is none; with the line.
    """
    import os

    try:
        if os.path.getsize(path) > MAX_FILE:
            raise InputError(f"{what} {path[:200]!r} has more than {MAX_FILE >> 20} MiB.", "Give a sample.")
        with open(path, encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"{what} {path[:200]!r}: {reason}.", f"Check the path. {AS}") from None
    is_json = text.lstrip()[:1] in ("[", "{")
    rows = _of_json(text, path, what) if is_json else _of_csv(text, path, what)
    if not rows:
        raise InputError(f"{what} {path[:200]!r} holds no lengths.", AS)
    if len(rows) > MAX_VALUES:
        raise InputError(f"{what} {path[:200]!r} holds more than {MAX_VALUES:,} rows.", "Give a sample.")
    return rows


def _number(value: Any, path: str, what: str, line: int, zero: bool = False) -> int:
    if zero and str(value).strip() in ("0", "0.0"):
        return 0  # a request that was answered with nothing
    try:
        return parse_length(value, what)
    except InputError:
        raise InputError(
            f"{what} {path[:200]!r}, row {line}: {shown(value)} is no length.",
            "Every length is a whole number of tokens above 0.",
        ) from None


def _of_csv(text: str, path: str, what: str) -> list[dict[str, int]]:
    import csv

    try:
        lines = [row for row in csv.reader(text.splitlines(), delimiter="\t" if "\t" in text else ",") if row]
    except csv.Error as error:
        raise InputError(f"{what} {path[:200]!r} is no CSV: {error}.", AS) from None
    if not lines:
        return []
    head = [word.strip().lower() for word in lines[0]]
    named = not any(word[:1].isdigit() or word[:1] in "-+." for word in head if word)
    if not named and len(head) > 1:
        raise InputError(f"{what} {path[:200]!r} has {len(head)} columns without names.", AS)
    columns = [name for name in COLUMNS if name in head] if named else [""]
    if named and not columns:
        if len(head) > 1:
            raise InputError(f"{what} {path[:200]!r} has columns {', '.join(map(repr, head[:6]))}.", AS)
        columns, head = [""], [""]
    places = {name: head.index(name) if named else 0 for name in columns}
    rows = []
    for line, words in enumerate(lines[1:] if named else lines, 2 if named else 1):
        row = {}
        for name, place in places.items():
            if place >= len(words):
                raise InputError(f"{what} {path[:200]!r}, row {line} is cut short.", AS)
            row[name] = _number(words[place].strip(), path, what, line, name == "output")
        rows.append(row)
    return rows


def _of_json(text: str, path: str, what: str) -> list[dict[str, int]]:
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{what} {path[:200]!r} is no JSON.", f"Mend it. {AS}") from None
    if isinstance(found, dict):  # columns
        columns = {name: found[name] for name in COLUMNS if isinstance(found.get(name), list)}
        if not columns or len({len(values) for values in columns.values()}) != 1:
            raise InputError(
                f"{what} {path[:200]!r} has no lists prompt and output of equal length.",
                'Write [512, 1024] or {"prompt": [...], "output": [...]}.',
            )
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    rows: list[dict[str, int]] = []
    for line, one in enumerate(found, 1):
        if isinstance(one, dict):
            row = {
                name: _number(one[name], path, what, line, name == "output")
                for name in COLUMNS
                if name in one
            }
            if not row or (rows and row.keys() != rows[0].keys()):
                raise InputError(f"{what} {path[:200]!r}, row {line}: no prompt or output.", AS)
            rows.append(row)
        elif rows and "" not in rows[0]:
            raise InputError(f"{what} {path[:200]!r}, row {line}: no prompt or output.", AS)
        else:
            rows.append({"": _number(one, path, what, line)})
    return rows
