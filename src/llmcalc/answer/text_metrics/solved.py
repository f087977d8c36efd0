"""From one measure to all: bits per unit, by how many units a text has."""

from __future__ import annotations

import math
from typing import Any

from llmcalc.answer.text_metrics.asked import MEASURES, Asked, option
from llmcalc.errors import InputError
from llmcalc.text.amounts import SLACK, worse
from llmcalc.text.formulas import bits_of_nats, bits_per_unit

LN2 = math.log(2)


class Solved:
    """Bits per unit, with grades.

    Attributes
    ----------
    base : tuple or None
        Name, unit and bits of the measure that all others follow from.
    bits : dict
        Unit to bits per unit; only what is known. [bits]
    grades : dict
        Unit to grade.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.base = asked.measures[0] if asked.measures else None
        self.bits: dict[str, float] = {}
        self.grades: dict[str, str] = {}
        if self.base is None:
            return
        self._join(asked.measures)
        _, unit, bits = self.base
        for other in ("token", "character", "byte", "word", "text"):
            if other == unit:
                self.bits[other], self.grades[other] = bits, "exact"
                continue
            found = asked.amounts.per(other, unit)
            if found is not None:
                self.bits[other] = float(bits_per_unit(bits, 1.0, found[0]))
                self.grades[other] = "exact" if found[1] == "exact" else worse("derived", found[1])

    def _join(self, measures: list[tuple[str, str, float]]) -> None:
        """Take ratios that two measures imply; refuse measures that contradict each other."""
        amounts = self.asked.amounts
        name, unit, bits = measures[0]
        for other, its_unit, its_bits in measures[1:]:
            known = (1.0, "exact", "") if its_unit == unit else amounts.per(its_unit, unit)
            if known is None:
                if not bits or not its_bits:
                    raise InputError(
                        f"{option(name)} and {option(other)} say nothing of their ratio: one of them is 0.",
                        "Give counts of the text.",
                    )
                told = f"{option(name)} with {option(other)}"
                amounts.ratio(its_unit, unit, bits / its_bits, told)
                continue
            expected = bits / known[0]
            if abs(expected - its_bits) > SLACK * max(expected, its_bits):
                raise self._contradiction(name, other, its_unit, expected, its_bits)

    def _contradiction(self, name: str, other: str, unit: str, expected: float, given: float) -> InputError:
        """Two measures that can't both hold, and what may have been confused."""
        shown, value = _in_own(other, expected), _in_own(other, given)
        problem = (
            f"{option(name)} and {option(other)} contradict each other: from the first follows {shown}, "
            f"not {value}."
        )
        times = given / expected if expected else math.inf
        for factor, one, two in ((LN2, "bits", "nats"), (1 / LN2, "nats", "bits")):
            if abs(times / factor - 1) < 2 * SLACK:
                return InputError(
                    problem,
                    f"The second is {factor:.4f} times that, which is {two} taken for {one}:"
                    f" a loss of PyTorch is in nats, bits are nats / ln 2.",
                )
        density = self.asked.amounts.per("byte", "character")
        if density is not None and density[0] > 1 + SLACK and unit in ("byte", "character"):
            factor = density[0] if unit == "byte" else 1 / density[0]
            if abs(times / factor - 1) < 2 * SLACK:
                return InputError(
                    problem,
                    "Bits per byte and bits per character seem to be exchanged: papers on enwik8 do that.",
                )
        return InputError(problem, "Leave one of them out, or correct it.")


def _in_own(name: str, bits: float) -> str:
    """Bits in what a measure is given in."""
    kind = MEASURES[name][1]
    if kind == "perplexity":
        return f"{2**bits:.6g}" if bits < 1000 else f"2^{bits:.6g}"
    if kind in ("nats", "likelihood"):
        return f"{bits * LN2 * (-1 if kind == 'likelihood' else 1):.6g}"
    return f"{bits / 8 if kind == 'ratio' else 8 / bits if kind == 'factor' else bits:.6g}"


LARGE_VOCABULARY = 128_256
"""Tokens of Llama 3: a loss above that of guessing among them is hardly one of a language model."""

LEAST_BYTE, MOST_BYTE, LEAST_TOKEN = 0.5, 1.6, 2.0
"""Bits that general text hardly goes below or above: per byte (GPT-3 0.72, GPT-2 small 1.23 on the Pile),
per token (Hoffmann et al. leave 1.69 nats, 2.44 bits, to an endless model)."""


def doubts(solved: Solved, vocabulary: int | None) -> list[str]:
    """Hints where a figure looks like nats taken for bits, or the reverse."""
    if solved.base is None or solved.base[0] not in MEASURES:
        return []
    name, unit, _ = solved.base
    kind = MEASURES[name][1]
    per_byte, per_token = solved.bits.get("byte"), solved.bits.get("token")
    found = []
    if (
        per_token is not None
        and vocabulary
        and per_token > float(bits_of_nats(math.log(vocabulary))) * (1 + SLACK)
    ):
        found.append(
            f"This is worse than guessing evenly among {vocabulary:,} tokens "
            f"({math.log(vocabulary):.3f} nats, "
            f"{math.log2(vocabulary):.3f} bits). {_swap(name, unit, kind)}"
        )
    elif per_byte is not None and per_byte < LEAST_BYTE and kind == "bits":
        found.append(
            f"{per_byte:.3g} bits per byte are fewer than GPT-3 needs for the Pile (0.718). If "
            f"{option(name)} is "
            f"in nats, it is {per_byte / LN2:.3g} bits per byte. {_swap(name, unit, kind)}"
        )
    elif per_byte is not None and per_byte > MOST_BYTE and kind == "nats":
        found.append(
            f"{per_byte:.3g} bits per byte are more than GPT-2's smallest model needs for the Pile "
            "(1.225). If "
            f"{option(name)} is in bits, it is {per_byte * LN2:.3g}. {_swap(name, unit, kind)}"
        )
    elif per_byte is None and per_token is not None and 0 < per_token < LEAST_TOKEN and kind == "bits":
        found.append(
            f"{per_token:.3g} bits per token are {per_token * LN2:.3g} nats, below the 1.69 that Hoffmann "
            f"et al. leave to an endless model on web text. {_swap(name, unit, kind)}"
        )
    elif per_byte is None and not vocabulary and per_token is not None and kind == "nats" \
            and per_token > math.log2(LARGE_VOCABULARY):  # fmt: skip
        found.append(
            f"{per_token * LN2:.3g} nats per token are more than guessing evenly among Llama 3's "
            f"{LARGE_VOCABULARY:,} tokens costs: {math.log(LARGE_VOCABULARY):.2f}. {_swap(name, unit, kind)}"
        )
    if per_byte is not None and per_byte > 8:
        found.append(f"{per_byte:.4g} bits per byte are more than the text itself has: 8.")
    return found


def _swap(name: str, unit: str, kind: str) -> str:
    """The option for the other unit of information."""
    if unit == "text":
        other = "nats" if kind == "bits" else "bits"
        return f"If it is in {other}, use --total-{other}."
    if kind == "bits":
        return f"For nats use {'--loss' if unit == 'token' else f'--nats-per-{unit}'}."
    return f"For bits use --bits-per-{unit}."


def span(unit: str, low: Solved, high: Solved | None) -> list[float] | None:
    """Bits per unit over the range of an assumed tokenizer."""
    if high is None or unit not in low.bits or low.grades[unit] != "assumed":
        return None
    ends = sorted((low.bits[unit], high.bits[unit]))
    return ends if ends[0] < ends[1] else None


def amount(asked: Asked, unit: str) -> dict[str, Any] | None:
    """A count of the text with its grade."""
    found = asked.amounts.number(unit)
    return None if found is None else {"number": found[0], "grade": found[1]}
