"""Tables of runs as they come: CSV, JSON lines, Parquet, standard input, frames, dicts of arrays."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from llmcalc.errors import InputError

KINDS = "a table with a heading: CSV, JSON lines or Parquet"
SEPARATORS = ",;\t|"


class Table:
    """Columns by name, as given, and where each row stood.

    Attributes
    ----------
    columns : dict of str to list
        Cells as they are: text, numbers or None.
    places : list of str
        ``line 7`` or ``row 6`` for each row.
    name : str
        What it is called in errors.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], places: Sequence[str], name: str) -> None:
        self.columns = {str(key): list(cells) for key, cells in columns.items()}
        self.places, self.name = list(places), name

    def __len__(self) -> int:
        return len(self.places)

    def take(self, chosen: Sequence[int]) -> Table:
        """Some of the rows."""
        return Table(
            {key: [cells[place] for place in chosen] for key, cells in self.columns.items()},
            [self.places[place] for place in chosen],
            self.name,
        )


def read_table(source: Any) -> Table:
    """Read a table of runs.

    Parameters
    ----------
    source : str, path, dict, sequence of dicts, or frame
        A file (``-`` is standard input), a dict of arrays, records, or anything with columns: pandas, polars.

    Returns
    -------
    Table
        With at least one row.

    Raises
    ------
    InputError
        For a file that is missing, empty, binary or no table.
    """
    if isinstance(source, (str, os.PathLike)):
        table = _from_bytes(*_bytes(source))
    elif isinstance(source, Mapping):
        table = _from_columns(source, "The dict")
    elif hasattr(source, "to_pydict"):
        table = _from_columns(source.to_pydict(), "The table")
    elif hasattr(source, "columns"):
        if not len(set(map(str, source.columns))) == len(list(source.columns)):
            raise InputError("The frame has two columns of one name.", "Rename one of them.")
        table = _from_columns({str(name): source[name] for name in source.columns}, "The frame")
    elif getattr(getattr(source, "dtype", None), "names", None):
        table = _from_columns({name: source[name] for name in source.dtype.names}, "The array")
    elif isinstance(source, Sequence) and source and all(isinstance(one, Mapping) for one in source):
        table = _from_records(source, [f"row {place}" for place in range(1, len(source) + 1)], "The list")
    else:
        raise InputError(
            f"Data of type {type(source).__name__} can't be read as runs.",
            "Give a file, a DataFrame, a dict of arrays or a list of dicts.",
        )
    if not len(table):
        raise InputError(f"{table.name} has no rows.", "Give one row for each run or checkpoint.")
    return table


def _bytes(source: Any) -> tuple[bytes, str]:
    """The content of a file or of standard input, and its name."""
    name = os.fspath(source)
    if name == "-":
        return sys.stdin.buffer.read(), "Standard input"
    if not name.strip():
        raise InputError("FILE is empty.", f"Name {KINDS}, or - for standard input.")
    try:
        with open(name, "rb") as stream:
            return stream.read(), name
    except IsADirectoryError:
        raise InputError(f"{name} is a folder.", f"Name {KINDS}.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name}: {reason}.", f"Name {KINDS}, or - for standard input.") from None


def _from_bytes(data: bytes, name: str) -> Table:
    """Read by what the content is, whatever the name says."""
    if not data.strip():
        raise InputError(f"{name} is empty.", f"Give {KINDS}.")
    if data[:4] == b"PAR1":
        return _parquet(data, name)
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1") if _textual(data) else ""
    if not text or "\0" in text:
        raise InputError(f"{name} is a binary file, not a table.", f"Give {KINDS}.")
    if text.lstrip()[:1] in ("{", "["):
        return _json(text, name)
    return _csv(text, name)


def _textual(data: bytes) -> bool:
    """Whether bytes may be text of an older encoding: hardly any control characters."""
    head = data[:4096]
    return sum(byte < 9 or 13 < byte < 32 for byte in head) == 0


def _parquet(data: bytes, name: str) -> Table:
    import io

    try:
        import pandas as pd

        frame = pd.read_parquet(io.BytesIO(data))
    except ImportError:
        raise InputError(
            f"{name} is a Parquet file, which needs pyarrow.", "pip install 'llmcalc-planner[parquet]'"
        ) from None
    except Exception as error:
        told = f"{error}".split("\n")[0][:80]
        raise InputError(f"{name} is a damaged Parquet file: {told}.", "Write it anew, or use CSV.") from None
    return _from_columns({str(key): frame[key] for key in frame.columns}, name)


def _json(text: str, name: str) -> Table:
    """Records, one a line or in one list; or one object of lists."""
    import json

    records, places = [], []
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError):
                raise InputError(
                    f"{name}, line {number}: not JSON.", 'Write one object a line: {"N": 1e9, ...}.'
                ) from None
            places.append(f"line {number}")
    else:
        if isinstance(whole, dict) and any(isinstance(one, list) for one in whole.values()):
            return _from_columns(whole, name)
        records = whole if isinstance(whole, list) else [whole]
        places = [f"row {number}" for number in range(1, len(records) + 1)]
    if not all(isinstance(one, dict) for one in records):
        raise InputError(f"{name} holds JSON that is no record.", 'Write one object a line: {"N": 1e9, ...}.')
    return _from_records(records, places, name)


def _csv(text: str, name: str) -> Table:
    """A heading and rows; the separator is the one that the heading has most of."""
    import csv

    body = [(number, line) for number, line in enumerate(text.splitlines(), 1)]
    body = [(number, line) for number, line in body if line.strip() and not line.lstrip().startswith("#")]
    if not body:
        raise InputError(f"{name} has no rows.", f"Give {KINDS}.")
    separator = max(SEPARATORS, key=body[0][1].count)
    limit = csv.field_size_limit(1 << 20)
    try:
        found = list(csv.reader([line for _, line in body], delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{name} can't be read as CSV: {error}.", f"Give {KINDS}.") from None
    finally:
        csv.field_size_limit(limit)
    if len(found) != len(body):
        raise InputError(f"{name} has a quoted cell over several lines.", "Write each row on one line.")
    head, rows = [cell.strip() for cell in found[0]], found[1:]
    if all(_is_number(cell) for cell in head):
        raise InputError(
            f"{name} has no heading: its first line holds numbers.",
            "Name the columns in the first line: N,D,loss.",
        )
    twice = [cell for cell in dict.fromkeys(head) if head.count(cell) > 1 and cell]
    if twice:
        raise InputError(f"{name} has two columns {twice[0][:40]!r}.", "Rename one of them.")
    for (number, _), row in zip(body[1:], rows, strict=True):
        if len(row) != len(head):
            raise InputError(
                f"{name}, line {number}: {len(row)} cells under {len(head)} headings.",
                "Give each row a cell for each column.",
            )
    columns = {key: [row[place].strip() for row in rows] for place, key in enumerate(head) if key}
    return Table(columns, [f"line {number}" for number, _ in body[1:]], name)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _from_records(records: Sequence[Mapping[str, Any]], places: Sequence[str], name: str) -> Table:
    keys = list(dict.fromkeys(str(key) for one in records for key in one))
    return Table({key: [one.get(key) for one in records] for key in keys}, places, name)


def _from_columns(columns: Mapping[str, Any], name: str) -> Table:
    lists = {}
    for key, cells in columns.items():
        if isinstance(cells, (str, bytes)) or not hasattr(cells, "__iter__"):
            raise InputError(
                f"{name}: {str(key)[:40]!r} is one value, not a column.", "Give a list or an array."
            )
        lists[str(key)] = list(cells.tolist() if hasattr(cells, "tolist") else cells)
    lengths = {key: len(cells) for key, cells in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} {length}" for key, length in list(lengths.items())[:5])
        raise InputError(f"{name} has columns of different lengths: {told}.", "Give equally many of each.")
    number = next(iter(lengths.values()), 0)
    return Table(lists, [f"row {place + 1}" for place in range(number)], name)
