"""A corpus in parts: losses and tokens of each, from a call or a CSV file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llmcalc.answer.text_metrics.asked import COUNTS, MEASURES, counted, measured
from llmcalc.errors import InputError, Problems
from llmcalc.text.counting import path_of
from llmcalc.text.formulas import perplexity_of_bits

NAMES = (
    "loss",
    "bits_per_token",
    "perplexity",
    "log_likelihood",
    "total_nats",
    "total_bits",
    "nats_per_byte",
    "bits_per_byte",
    "byte_perplexity",
    "bits_per_character",
    "bits_per_word",
    "word_perplexity",
)
LIMIT = 64 << 20
"""Bytes of a file of parts. [B]"""


class Part:
    """One part: its bits and its counts."""

    __slots__ = ("bits", "counts", "measure", "name")

    def __init__(self, name: str, measure: str, bits: float, counts: dict[str, int]) -> None:
        self.name, self.measure, self.bits, self.counts = name, measure, bits, counts


class Corpus:
    """Parts together.

    Attributes
    ----------
    bits : float
        Of all parts. [bits]
    counts : dict
        Counts that every part has, added up. [-]
    mean_perplexity : float or None
        The mean of the parts' own perplexities per token, which is no perplexity of the corpus. [-]
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.bits = math.fsum(part.bits for part in parts)
        shared = set.intersection(*(set(part.counts) for part in parts))
        self.counts = {
            unit: sum(part.counts[unit] for part in parts) for unit in COUNTS.values() if unit in shared
        }
        self.mean_perplexity: float | None = None
        rates = [part.bits / part.counts["token"] for part in parts if "token" in part.counts]
        if len(rates) == len(parts) and max(rates) < 300:
            self.mean_perplexity = math.fsum(float(perplexity_of_bits(rate)) for rate in rates) / len(rates)


def of_row(row: dict[str, Any], label: str) -> Part:
    """One part from its measure and counts.

    Raises
    ------
    InputError
        Without exactly one measure, or the count that it needs.
    """
    found = [name for name in NAMES if row.get(name) not in (None, "")]
    if len(found) != 1:
        told = f"holds {' and '.join(found)}" if found else "holds no loss"
        raise InputError(f"{label} {told}.", f"Give one of {', '.join(NAMES[:5])} in each.")
    problems = Problems()
    counts: dict[str, int] = {}
    for name, unit in COUNTS.items():
        if row.get(name) not in (None, ""):
            with problems:
                counts[unit] = counted(name, row[name])
    bits, unit = 0.0, MEASURES[found[0]][0]
    with problems:
        bits = measured(found[0], row[found[0]])
    try:
        problems.check()
    except InputError as error:
        raise InputError(f"{label}: {error.problem}", error.remedy) from None
    if unit != "text" and unit not in counts:
        raise InputError(
            f"{label} has no {unit}s, so its {found[0]} has no weight.", f"Give {unit}s of every part."
        )
    return Part(str(row.get("name") or label), found[0], bits * counts.get(unit, 1), counts)


def from_lists(given: dict[str, Any]) -> Corpus:
    """Parts of a call whose measure and counts are lists.

    Raises
    ------
    InputError
        For lists of different lengths, or a measure without counts.
    """
    lists = {name: list(value) for name, value in given.items() if isinstance(value, (list, tuple))}
    lengths = {name: len(value) for name, value in lists.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{length} of --{name.replace('_', '-')}" for name, length in lengths.items())
        raise InputError(
            f"Parts do not pair up: {told}.", "Give one of each for every part, in the same order."
        )
    size = next(iter(lengths.values()))
    if not size:
        raise InputError("There are no parts.", "Give a loss and tokens of each.")
    if not any(name in NAMES for name in lists):
        raise InputError(
            f"There are {size} counts of parts, and no loss of them.", "Give --loss for each, or one count."
        )
    problems, parts = Problems(), []
    for place in range(size):
        with problems:
            parts.append(of_row({name: value[place] for name, value in lists.items()}, f"Part {place + 1}"))
    problems.check()
    return Corpus(parts)


def from_file(file: Any) -> Corpus:
    """Parts of a CSV file with a heading: a measure, its counts, and maybe a name.

    Raises
    ------
    InputError
        With file and line of what is wrong.
    """
    import csv
    import sys

    file = path_of(file, "--parts")

    try:
        if file == "-":
            raw = sys.stdin.buffer.read(LIMIT + 1) if sys.stdin is not None else b""
        else:
            with open(file, "rb") as stream:
                raw = stream.read(LIMIT + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, ValueError, TypeError) as error:
        reason = (
            "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None)
        )
        raise InputError(
            f"--parts {str(file)[:200]!r} can't be read: {reason or error}.", "Check the path."
        ) from None
    if len(raw) > LIMIT:
        raise InputError(f"--parts {file} is larger than {LIMIT >> 20} MiB.", "Give one line for each part.")
    rows = list(csv.reader(text.splitlines()))
    if not rows or len(rows) < 2:
        raise InputError(f"--parts {file} holds no parts.", "Begin with a line such as loss,tokens,bytes.")
    head = [word.strip().lower().replace(" ", "_").replace("-", "_") for word in rows[0]]
    known = {*NAMES, *COUNTS, "name"}
    strange = [word for word in head if word not in known]
    if strange:
        raise InputError(
            f"--parts {file}: column {strange[0][:40]!r} is not known.",
            f"Use {', '.join(NAMES)} and {', '.join(COUNTS)}, name.",
        )
    problems, parts = Problems(), []
    for line, cells in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(problems.found) >= 5:
            break
        with problems:
            parts.append(
                of_row(
                    dict(zip(head, (cell.strip() for cell in cells), strict=False)), f"{file}, line {line}"
                )
            )
    problems.check()
    if not parts:
        raise InputError(f"--parts {file} holds no parts.", "Begin with a line such as loss,tokens,bytes.")
    return Corpus(parts)
