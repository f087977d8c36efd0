"""Entropy, cross-entropy and divergence of distributions given number by number."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmcalc.errors import InputError

SLACK = 1e-3
"""How far probabilities may miss a sum of 1: what rounding to three digits does. [-]"""


def distribution(values: Sequence[float], what: str) -> list[float]:
    """Probabilities, checked and brought to a sum of 1 where rounding missed it.

    Raises
    ------
    InputError
        For none, a number outside 0 to 1, or a sum that is not 1.

    Examples
    --------
    >>> distribution([0.333, 0.333, 0.333], "--p")
    [0.3333333333333333, 0.3333333333333333, 0.3333333333333333]
    """
    if not values:
        raise InputError(f"{what} holds no probability.", f"Give some, such as {what} 0.5,0.25,0.25.")
    for value in values:
        if not 0 <= value <= 1:
            raise InputError(f"{what} has {value:g}, which is no probability.", "Use numbers from 0 to 1.")
    total = math.fsum(values)
    if abs(total - 1) > SLACK:
        raise InputError(
            f"{what} adds up to {total:.6g}, not 1.",
            "Divide each number by their sum, or add what is missing.",
        )
    return [value / total for value in values]


def entropy(p: Sequence[float]) -> float:
    """Entropy of a distribution. [nats]

    Examples
    --------
    A fair coin has one bit:

    >>> entropy([0.5, 0.5]) / math.log(2)
    1.0
    """
    return -math.fsum(one * math.log(one) for one in p if one)


def cross_entropy(p: Sequence[float], q: Sequence[float]) -> float:
    """Cross-entropy of q under p. [nats]

    Raises
    ------
    InputError
        Where q rules out what p has, which costs infinitely much.

    Examples
    --------
    >>> p, q = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
    >>> cross_entropy(p, q) / math.log(2), entropy(p) / math.log(2)
    (1.75, 1.5)
    """
    if len(p) != len(q):
        raise InputError(
            f"--p has {len(p):,} probabilities and --q has {len(q):,}.", "Give both for the same outcomes."
        )
    for place, (own, other) in enumerate(zip(p, q, strict=True), 1):
        if own and not other:
            raise InputError(
                f"--q gives outcome {place} no chance, but --p has it with {own:g}: the loss is infinite.",
                "Give every outcome of --p some probability in --q.",
            )
    return -math.fsum(own * math.log(other) for own, other in zip(p, q, strict=True) if own)
