"""How many tokens, characters, bytes and words a text has: counts, ratios between them, contradictions."""

from __future__ import annotations

from collections import deque

from llmcalc.errors import InputError

UNITS = ("token", "character", "byte", "word", "text")
PLURAL = {"token": "tokens", "character": "characters", "byte": "bytes", "word": "words", "text": "texts"}
SLACK = 0.005
"""How far two figures for the same may differ: what rounding to three digits does. [-]"""

GRADES = ("exact", "derived", "calibrated", "assumed")


class Amounts:
    """Counts of units in one text, absolute where one is known, else relative to each other.

    Attributes
    ----------
    counts : dict
        Units that were counted; the text itself is one. [-]
    """

    def __init__(self) -> None:
        self.counts: dict[str, float] = {"text": 1}
        self._count_of: dict[str, tuple[str, str]] = {"text": ("the text", "exact")}
        self._links: dict[str, list[tuple[str, float, str, str]]] = {unit: [] for unit in UNITS}

    def count(self, unit: str, number: float, told: str, grade: str = "exact") -> None:
        """Take a count.

        Raises
        ------
        InputError
            If another one says otherwise.
        """
        known = self.number(unit)
        if known is not None:
            _agree(known[0], number, told, PLURAL[unit], self._told(unit))
            if unit in self.counts:
                return
        self.counts[unit], self._count_of[unit] = number, (told, grade)

    def ratio(self, unit: str, other: str, number: float, told: str, grade: str = "derived") -> None:
        """Take a number of units for each other unit: ``ratio("byte", "token", 4.3)``.

        Raises
        ------
        InputError
            If what is known says otherwise.
        """
        known = self.per(unit, other)
        if known is not None:
            _agree(known[0], number, told, f"{PLURAL[unit]} per {other}", known[2])
            return
        self._links[other].append((unit, number, grade, told))
        self._links[unit].append((other, 1 / number, grade, told))

    def _told(self, unit: str) -> str:
        return self._count_of.get(unit, ("what else is given", ""))[0]

    def _reach(self, start: str) -> dict[str, tuple[float, str, str]]:
        """Every unit that can be reached from one: how many of it for one, the worst grade, what said so."""
        found = {start: (1.0, "exact", "")}
        queue = deque([start])
        while queue:
            here = queue.popleft()
            number, grade, told = found[here]
            near = list(self._links[here])
            if here in self.counts:
                near += [
                    (unit, count / self.counts[here], worse(self._count_of[unit][1], self._count_of[here][1]),
                     f"{self._told(unit)}, {self._told(here)}")
                    for unit, count in self.counts.items() if unit != here
                ]  # fmt: skip
            for unit, times, own, words in near:
                if unit not in found:
                    found[unit] = (number * times, worse(grade, own), _joined(told, words))
                    queue.append(unit)
        return found

    def per(self, unit: str, other: str) -> tuple[float, str, str] | None:
        """Units for each other unit, the grade and what said so; None if it is not known. [-]"""
        if unit in self.counts and other in self.counts:
            grade = worse(self._count_of[unit][1], self._count_of[other][1])
            told = _joined(self._told(unit), self._told(other))
            return self.counts[unit] / self.counts[other], grade, told
        return self._reach(other).get(unit)

    def number(self, unit: str) -> tuple[float, str] | None:
        """How many of a unit the text has, and the grade; None if it is not known. [-]"""
        if unit in self.counts:
            return self.counts[unit], self._count_of[unit][1]
        for known, count in self.counts.items():
            found = self.per(unit, known)
            if found is not None:
                return count * found[0], worse(found[1], self._count_of[known][1])
        return None


def _joined(*told: str) -> str:
    """What several figures came from, each once."""
    return ", ".join(dict.fromkeys(word for words in told for word in words.split(", ") if word))


def worse(one: str, other: str) -> str:
    """The weaker of two grades."""
    return max(one, other, key=GRADES.index)


def _agree(known: float, number: float, told: str, what: str, before: str) -> None:
    if abs(known - number) > SLACK * max(known, number):
        raise InputError(
            f"{told} contradicts {before}: {known:,.6g} {what} follow from that, not {number:,.6g}.",
            "Leave one of them out, or correct it.",
        )
