"""What several requests need together: mean and 95th percentile of a sum of independent ones.

Few are convolved, many are a normal distribution with its skewness and kurtosis; nothing is drawn.
"""

from __future__ import annotations

import math

Z95 = 1.6448536269514722
"""The 95th percentile of the standard normal distribution."""

SHARE = 0.95
CONVOLVED = 64
"""Up to so many requests their distributions are convolved. [-]"""

CELLS = 1 << 18
"""Cells of the sum's grid. Where amounts need more, each is rounded up to a coarser one. [-]"""

SLACK = 1e-9
"""Rounding of a convolution that a percentile must not see."""


class Amounts:
    """What one request may need, and how likely that is.

    Parameters
    ----------
    amounts : list of int
        Bytes. [B]
    weights : list of float
        Probabilities, which add up to 1. [-]
    """

    def __init__(self, amounts: list[int], weights: list[float]) -> None:
        held: dict[int, float] = {}
        for amount, weight in zip(amounts, weights, strict=True):
            held[amount] = held.get(amount, 0.0) + weight
        rows = sorted(held.items())
        self.amounts = [amount for amount, _ in rows]
        self.weights = [weight for _, weight in rows]
        self._known: dict[int, int] = {}

    @property
    def mean(self) -> float:
        """The expected amount of one. [B]"""
        return math.fsum(a * w for a, w in zip(self.amounts, self.weights, strict=True))

    def percentile(self, many: int) -> int:
        """The 95th percentile of the sum of so many independent ones; never below its mean. [B]

        Examples
        --------
        One of two equally likely amounts, twice: 0, 1 or 2 with 1/4, 1/2, 1/4.

        >>> Amounts([0, 1], [0.5, 0.5]).percentile(2)
        2
        >>> Amounts([0, 1], [0.5, 0.5]).percentile(10_000)
        5083
        """
        if many not in self._known:
            expected = math.ceil(many * self.mean - 1e-6)
            low, high = many * self.amounts[0], many * self.amounts[-1]
            if low == high:
                found = high
            elif many == 1:
                found = self._of_one()
            else:
                found = self._convolved(many) if many <= CONVOLVED else self._expanded(many)
            self._known[many] = min(max(found, expected, low), high)
        return self._known[many]

    def method(self, many: int) -> str:
        """How the percentile of so many is computed, for people."""
        if many == 1 or len(self.amounts) == 1:
            return "of one request"
        if many <= CONVOLVED:
            return f"of the sum of {many} independent requests, by convolution"
        return f"of the sum of {many:,} independent requests, by a normal distribution with skewness"

    def _of_one(self) -> int:
        done = 0.0
        for amount, weight in zip(self.amounts, self.weights, strict=True):
            done += weight
            if done >= SHARE - SLACK:
                return amount
        return self.amounts[-1]

    def _convolved(self, many: int) -> int:
        import numpy as np

        least = self.amounts[0]
        unit = math.gcd(*(amount - least for amount in self.amounts))
        unit = max(unit, -(-many * (self.amounts[-1] - least) // CELLS))
        cells = [-(-(amount - least) // unit) for amount in self.amounts]
        one = np.zeros(many * cells[-1] + 1)
        np.add.at(one, cells, self.weights)
        spectrum = np.fft.rfft(one)
        whole = np.cumsum(np.fft.irfft(spectrum**many, len(one)))
        return many * least + unit * int(np.argmax(whole >= SHARE - SLACK))

    def _expanded(self, many: int) -> int:
        """Cornish and Fisher's expansion around the normal distribution, to the third order."""
        mean = self.mean
        moments = [
            math.fsum(w * (a - mean) ** power for a, w in zip(self.amounts, self.weights, strict=True))
            for power in (2, 3, 4)
        ]
        spread = math.sqrt(moments[0])
        skew = moments[1] / spread**3 / math.sqrt(many)
        tail = (moments[2] / moments[0] ** 2 - 3) / many
        z = Z95
        bent = z + (z * z - 1) * skew / 6 + (z**3 - 3 * z) * tail / 24 - (2 * z**3 - 5 * z) * skew * skew / 36
        return math.ceil(many * mean + bent * spread * math.sqrt(many))
