"""The levels that faiss draws for the vectors of an HNSW graph: always the same, for its seed is fixed."""

from __future__ import annotations

import math
from typing import Any

SEED = 12345
EXACT = 20_000
"""Vectors up to which levels are drawn one by one; beyond, their expectation is as good. [-]"""

LEAST = 1e-9
"""Chance below which faiss has no level. [-]"""


def _single(value: float) -> float:
    """A number as 32 bits hold it."""
    from struct import pack, unpack

    rounded: float = unpack("f", pack("f", value))[0]
    return rounded


def chances(m: int) -> list[float]:
    """The chance of each level, as faiss tabulates them.

    Examples
    --------
    Of 32 links a level, one vector in 32 has a second level:

    >>> len(chances(32)), round(1 - chances(32)[0], 6)
    (6, 0.03125)
    """
    scale = _single(1.0 / math.log(m))
    found: list[float] = []
    while True:
        chance = _single(math.exp(-len(found) / scale) * (1 - math.exp(-1 / scale)))
        if chance < LEAST:
            return found
        found.append(chance)


def _generator() -> Any:
    """C++'s std::mt19937 with faiss's seed, as the state of Python's own."""
    import _random  # the C core of random, which alone costs nothing

    words = [SEED]
    for place in range(1, 624):
        words.append((1812433253 * (words[-1] ^ (words[-1] >> 30)) + place) & 0xFFFFFFFF)
    made = _random.Random()
    made.setstate((*words, 624))
    return made


def links(vectors: int, m: int) -> int:
    """Places for links of the first vectors of an index, exactly. [-]

    Examples
    --------
    >>> links(1000, 32)
    64864
    """
    table = chances(m)
    draw = _generator().getrandbits
    last = len(table) - 1
    above = 0
    for _ in range(vectors):
        share, level = draw(32) / 4294967295.0, 0
        while level < last and share >= table[level]:
            share -= table[level]
            level += 1
        above += level
    return 2 * m * vectors + m * above
