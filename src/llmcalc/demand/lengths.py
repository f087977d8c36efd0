"""Lengths of prompts and outputs: a number, a list, a distribution, or a file of them."""

from __future__ import annotations

import os
from typing import Any

from llmcalc.errors import InputError, did_you_mean, one_of
from llmcalc.formula import is_array
from llmcalc.units import MAX_TOKENS, parse_length, shown

STRATA, STRATA_OF_TWO = 390, 70
"""Parts of equal probability that a distribution is cut into, alone and where prompt and output both vary.
Of so many parts one has its middle at the 95th percentile."""

MAX_VALUES = 1_000_000
"""Lengths that a list or a file may hold. [-]"""

SHAPES = {
    "uniform": ("lo", "hi"), "lognormal": ("mean", "p95"), "exponential": ("mean",), "normal": ("mean", "sd"),
}  # fmt: skip
"""Distributions, and what they are described by; ``median`` may stand for a log-normal's ``mean``."""

REMEDY = "Use 512, 8k, a list '512, 1k', 'uniform(128, 2k)', 'lognormal(mean=1k, p95=3k)' or a file."


class Lengths:
    """Lengths and how likely each is.

    Attributes
    ----------
    values : list of int
        In ascending order. [tokens]
    weights : list of float
        Their probabilities, which add up to 1. [-]
    longest : int
        The longest that may come. [tokens]
    label : str
        As a person wrote it.
    notes : list of str
        What the reader should know.
    """

    __slots__ = ("label", "longest", "notes", "values", "weights")

    def __init__(
        self, values: list[int], weights: list[float], label: str, longest: int | None = None
    ) -> None:  # fmt: skip
        self.values, self.weights, self.label = values, weights, label
        self.longest = values[-1] if longest is None else longest
        self.notes: list[str] = []

    @property
    def is_fixed(self) -> bool:
        """Whether there is one length alone."""
        return len(self.values) == 1 and self.longest == self.values[0]

    def thinned(self, parts: int) -> Lengths:
        """The same in at most so many values: means of parts of equal probability, rounded up."""
        if len(self.values) <= parts:
            return self
        values, weights = thin(list(zip(self.values, self.weights, strict=True)), parts)
        made = Lengths(values, weights, self.label, self.longest)
        made.notes = self.notes
        return made


def thin(rows: list[tuple[int, float]], parts: int) -> tuple[list[int], list[float]]:
    """Sorted values with their probabilities, in parts of equal probability: means, rounded up.

    Examples
    --------
    >>> thin([(1, 0.25), (3, 0.25), (5, 0.25), (9, 0.25)], 2)
    ([2, 7], [0.5, 0.5])
    """
    values: list[int] = []
    weights: list[float] = []
    mass = total = done = 0.0
    for value, weight in rows:
        mass, total, done = mass + weight, total + weight * value, done + weight
        if done >= (len(values) + 1) / parts - 1e-12:
            values.append(_up(total / mass))
            weights.append(mass)
            mass = total = 0.0
    if mass:
        values.append(_up(total / mass))
        weights.append(mass)
    return values, weights


def _up(number: float) -> int:
    """Rounded up, but not by the last bits of a float; at least one token."""
    return max(1, -int(-(number - 1e-9) // 1))


def lengths_of(value: Any, what: str, most: int | None) -> Lengths:
    """Read lengths.

    Parameters
    ----------
    value : int, str, list, or ndarray
        ``4096``; ``[512, 1024]`` or ``"512, 1k"``, all equally likely; ``"lognormal(mean=1k, p95=3k)"``;
        or the path of a file with one length a line.
    what : str
        The option, for errors.
    most : int or None
        The longest that the model takes: a distribution is cut there. [tokens]

    Raises
    ------
    InputError
        For anything else, with what may be written.

    Examples
    --------
    >>> lengths_of("512, 1k", "--prompt", None).values
    [512, 1024]
    """
    if is_array(value):
        return _listed(list(value.tolist() if hasattr(value, "tolist") else value), what)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        number = parse_length(value, what)
        return Lengths([number], [1.0], f"{number:,}")
    text = value.strip()
    if text.endswith(")") and "(" in text:
        from llmcalc.demand.shapes import shape

        name, numbers = _described(text, what)
        return shape(name, numbers, what, text, most)
    if "," in text:
        return _listed(_split(text, what), what)
    if os.sep in text or text.lower().endswith((".csv", ".json", ".txt", ".tsv")) or os.path.exists(text):
        from llmcalc.demand.files import file_lengths

        return file_lengths(text, what)
    try:
        number = parse_length(value, what)
    except InputError as error:
        raise InputError(error.problem, REMEDY) from None
    return Lengths([number], [1.0], f"{number:,}")


def _split(text: str, what: str) -> list[str]:
    """The words of a list; what may as well be one number with separators is refused."""
    words = text.split(",")
    if ", " not in text and all(len(w) == 3 and w.isdigit() for w in words[1:]) and len(words[0]) <= 3:
        joined = "".join(words)
        raise InputError(
            f"{what} {text[:60]!r} may be one number or a list of {len(words)}.",
            f"Write {joined} for the number, '{', '.join(words)}' for the list.",
        )
    return words


def _listed(values: list[Any], what: str) -> Lengths:
    """A list of lengths, all equally likely."""
    if not values:
        raise InputError(f"{what} is an empty list.", REMEDY)
    if len(values) > MAX_VALUES:
        raise InputError(f"{what} lists more than {MAX_VALUES:,} lengths.", "Give a sample of them.")
    if any(is_array(one) for one in values):
        raise InputError(f"{what} is a list of lists.", "Give a flat list of lengths.")
    if any(isinstance(one, str) and not one.strip() for one in values):
        raise InputError(f"{what} has an empty place between its commas.", REMEDY)
    numbers = sorted(parse_length(one, what) for one in values)
    label = ", ".join(f"{n:,}" for n in numbers) if len(numbers) <= 4 else f"{len(numbers):,} lengths"
    return counted(numbers, label)


def counted(numbers: list[int], label: str) -> Lengths:
    """Sorted lengths, each as likely as it is frequent."""
    counts: dict[int, int] = {}
    for number in numbers:
        counts[number] = counts.get(number, 0) + 1
    return Lengths(list(counts), [many / len(numbers) for many in counts.values()], label)


def _described(text: str, what: str) -> tuple[str, dict[str, int]]:
    """Name and numbers of a distribution: ``uniform(128, 2k)``, ``lognormal(mean=1k, p95=3k)``."""
    name, _, inner = text[:-1].partition("(")
    name = name.strip().lower().replace("-", "").replace("_", "")
    if name not in SHAPES:
        near = did_you_mean(name, SHAPES, 1)
        raise InputError(
            f"{what}: the distribution {name[:40]!r} is not known.",
            f"{f'Did you mean {near[0]}? ' if near else ''}There are {one_of(list(SHAPES), 'and')}: "
            "uniform(128, 2k), lognormal(mean=1k, p95=3k).",
        )
    names = SHAPES[name]
    numbers: dict[str, int] = {}
    for place, word in enumerate(inner.split(",")):
        key, mark, number = word.partition("=")
        key = key.strip().lower() if mark else (names[place] if place < len(names) else "")
        allowed = {*names, *(("median",) if name == "lognormal" else ())}
        if key not in allowed or key in numbers:
            raise InputError(
                f"{what}: {shown(word.strip())} does not belong in {name}.",
                f"Write {name}({', '.join(f'{n}=...' for n in names)}).",
            )
        numbers[key] = parse_length(number if mark else word, f"{what} {key}")
    if len(numbers) != len(names):
        raise InputError(
            f"{what}: {name} takes {one_of(list(names), 'and')}.",
            f"Write {name}({', '.join(f'{n}=...' for n in names)}).",
        )
    return name, numbers


__all__ = ["MAX_TOKENS", "STRATA", "STRATA_OF_TWO", "Lengths", "counted", "lengths_of", "thin"]
