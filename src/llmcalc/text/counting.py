"""Bytes, characters and words of a text, read in pieces."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from llmcalc.errors import InputError
from llmcalc.units import shown

PIECE = 1 << 20


class Counts:
    """What a text has.

    Attributes
    ----------
    bytes, characters, words : int
        UTF-8 bytes, Unicode code points, runs without white space. [-]
    split_words : int
        Pieces between white space as lm-evaluation-harness counts them, empty ones at the ends with them. [-]
    marked : bool
        Whether it begins with a byte order mark, which counts as 3 bytes and a character.
    """

    __slots__ = ("bytes", "characters", "marked", "split_words", "words")

    def __init__(self) -> None:
        self.bytes = self.characters = self.words = self.split_words = 0
        self.marked = False


def count_file(file: Any, what: str = "--text") -> Counts:
    """Count a file, or standard input for ``-``.

    Raises
    ------
    InputError
        If it can't be read, is empty, holds zero bytes or is not UTF-8.
    """
    name = path_of(file, what)
    if name == "-":
        name = "standard input"
        if sys.stdin is None:
            raise InputError(f"{what} - reads standard input, which is closed.", "Name a file.")
        return count(_pieces(sys.stdin.buffer), f"{what}: {name}")
    try:
        with open(name, "rb") as stream:
            return count(_pieces(stream), f"{what} {name}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{what} {str(name)[:200]!r} can't be read: {reason}.", "Check the path.") from None


def path_of(file: Any, what: str) -> str:
    """The path of a file, or ``-`` for standard input.

    Raises
    ------
    InputError
        For anything else: a number would be a file that is open already.
    """
    if isinstance(file, (str, os.PathLike)):
        return str(os.fspath(file))
    raise InputError(f"{what} is {shown(file)}, which is no path.", "Name a file.")


def _pieces(stream: Any) -> Iterator[bytes]:
    while piece := stream.read(PIECE):
        yield piece


def count(pieces: Iterator[bytes], what: str) -> Counts:
    """Count a text that comes in pieces.

    Raises
    ------
    InputError
        If it is empty, holds zero bytes or is not UTF-8.

    Examples
    --------
    >>> found = count(iter([b"na", "\\u00efve caf\\u00e9\\n".encode()]), "text")
    >>> found.bytes, found.characters, found.words, found.split_words
    (13, 11, 2, 3)
    """
    import codecs

    made, decoder = Counts(), codecs.getincrementaldecoder("utf-8")()
    inside, first, last = False, "", ""
    for piece in pieces:
        if b"\0" in piece:
            place = made.bytes + piece.index(b"\0")
            raise InputError(
                f"{what} is no text: byte {place:,} is zero.",
                "Give a text in UTF-8; of a file in UTF-16 make one first: iconv -f utf-16 -t utf-8.",
            )
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError as error:
            held = len(error.object) - len(piece)
            raise InputError(
                f"{what} is not UTF-8: byte {made.bytes + error.start - held:,} can't be decoded.",
                "Convert it first, for example: iconv -f latin1 -t utf-8 FILE.",
            ) from None
        made.bytes += len(piece)
        _take(made, text, inside)
        if text:
            first, last = first or text[0], text[-1]
            inside = not last.isspace()
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise InputError(
            f"{what} is not UTF-8: its last character is cut off.", "Give the whole file."
        ) from None
    if not made.bytes:
        raise InputError(f"{what} is empty.", "Give a file that holds text.")
    made.marked = first == "\ufeff"
    made.split_words = made.words + first.isspace() + last.isspace() if made.words else 2
    return made


def _take(made: Counts, text: str, inside: bool) -> None:
    """Add a piece; a word that began in the piece before is counted already."""
    made.characters += len(text)
    made.words += len(text.split()) - (inside and text[:1] != "" and not text[0].isspace())
