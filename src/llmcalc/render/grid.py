"""Plain tables that keep within a width: headings break, spare columns go, the rest goes below."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

GAP = "  "

NARROW = 16
"""Characters that a column keeps whose cells break."""

Painter = Callable[[int, str, str], str]
"""Takes the number of a row, the heading of a column and a padded cell; gives the cell, in colour or not."""


def grid(
    head: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str], width: int,
    spare: Sequence[str] = (), paint: Painter | None = None, wrapped: Sequence[str] = (),
    split: bool = True,
) -> list[str]:  # fmt: skip
    """Lines of a table.

    Parameters
    ----------
    head, rows, align : sequence
        Headings, cells, and ``left`` or ``right`` for each column.
    width : int
        Characters of a line, at most if it can be.
    spare : sequence of str
        Headings of columns that may be left out where that helps, the first to go first.
    paint : callable, optional
        Colours a cell.
    wrapped : sequence of str
        Headings of columns whose cells may break over several lines.
    split : bool
        Whether columns that find no room stand in a second table below; else lines are longer.

    Examples
    --------
    >>> print("\\n".join(grid(["card", "GiB"], [["H100", "80"], ["T4", "16"]], ["left", "right"], 40)))
    card  GiB
    ---------
    H100   80
    T4     16
    """
    kept = list(range(len(head)))
    for name in ["", *spare]:
        if name and name in head:
            kept.remove(list(head).index(name))
        for broken in (False, True):
            heads = {
                column: _broken(head[column], _widest(rows, column)) if broken else [head[column]]
                for column in kept
            }
            widths = {column: max([*map(len, heads[column]), _widest(rows, column)]) for column in kept}
            if _total(widths.values()) <= width:
                break
        if _total(widths.values()) <= width:
            break
    for name in wrapped:
        over = _total(widths.values()) - width
        if over > 0 and name in head and list(head).index(name) in kept:
            column = list(head).index(name)
            widths[column] = max(widths[column] - over, NARROW, *map(len, heads[column]))
    lines: list[str] = []
    for block in _blocks(kept, widths, width) if split else [kept]:
        lines += ([""] if lines else []) + _block(heads, rows, align, head, block, widths, paint)
    return lines


def _widest(rows: Sequence[Sequence[str]], column: int) -> int:
    return max((len(row[column]) for row in rows), default=0)


def _total(widths: Iterable[int]) -> int:
    listed = list(widths)
    return sum(listed) + len(GAP) * (len(listed) - 1)


def _broken(text: str, wide: int) -> list[str]:
    """A heading on lines no longer than the cells below it, as far as its words allow."""
    words = text.split(" ")
    return _lines(text, max(wide, *map(len, words)))


def _lines(text: str, width: int) -> list[str]:
    """A text on lines of a width, broken at spaces and, where a word is longer, inside it."""
    lines, line = [], ""
    for word in text.split(" "):
        rest = word
        while len(rest) > width:
            if line:
                lines.append(line)
                line = ""
            cut = max(rest.rfind(mark, 1, width) for mark in "./_-") + 1 or width
            lines.append(rest[:cut])
            rest = rest[cut:]
        if line and len(line) + 1 + len(rest) > width:
            lines.append(line)
            line = rest
        else:
            line = f"{line} {rest}" if line else rest
    return [*lines, line]


def _blocks(kept: Sequence[int], widths: dict[int, int], width: int) -> list[list[int]]:
    """Columns that fit beside the first, block by block."""
    first, blocks = kept[0], [[kept[0]]]
    for column in kept[1:]:
        if len(blocks[-1]) > 1 and _total(widths[one] for one in [*blocks[-1], column]) > width:
            blocks.append([first])
        blocks[-1].append(column)
    return blocks


def _block(
    heads: dict[int, list[str]], rows: Sequence[Sequence[str]], align: Sequence[str], names: Sequence[str],
    columns: Sequence[int], widths: dict[int, int], paint: Painter | None,
) -> list[str]:  # fmt: skip
    """One table of some columns."""

    def padded(text: str, column: int) -> str:
        return text.ljust(widths[column]) if align[column] == "left" else text.rjust(widths[column])

    deep = max(len(heads[column]) for column in columns)
    lines = []
    for place in range(deep):
        cells = []
        for column in columns:
            shown = [""] * (deep - len(heads[column])) + heads[column]
            cells.append(padded(shown[place], column))
        lines.append(GAP.join(cells).rstrip())
    lines.append("-" * _total(widths[column] for column in columns))
    for number, row in enumerate(rows):
        split = {column: _lines(row[column], widths[column]) for column in columns}
        for place in range(max(map(len, split.values()))):
            cells = []
            for column in columns:
                text = padded(split[column][place] if place < len(split[column]) else "", column)
                cells.append(paint(number, names[column], text) if paint is not None else text)
            lines.append(GAP.join(cells).rstrip())
    return lines
