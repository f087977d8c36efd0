"""What a number of requests needs together: expected, at the 95th percentile, at worst."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from llmcalc.demand import Demand
from llmcalc.demand.sums import Amounts
from llmcalc.formula import Quantity, is_array

MOMENTS = (0.125, 0.375, 0.625, 0.875)
"""Shares of an output at which a request is looked at over its life. [-]"""


class Charge(Protocol):
    """What an engine holds for requests on one rank."""

    def once(self, demand: Demand) -> Quantity:
        """Bytes held once for all of them: a shared prefix. [B]"""

    def request(self, demand: Demand, prompt: Quantity, output: Quantity) -> Quantity:
        """Bytes of one request with all its outputs, beside what is held once. [B]"""


class Needs:
    """What requests need of one rank.

    Attributes
    ----------
    expected, p95, worst : int or ndarray
        Of so many requests together, at full length. [B]
    lifetime : int, ndarray or None
        On average over time, where lengths vary or outputs grow. [B]
    method : str
        How the percentile was computed.
    """

    __slots__ = ("expected", "lifetime", "method", "p95", "worst")

    def __init__(
        self, expected: Quantity, p95: Quantity, worst: Quantity, lifetime: Quantity | None, method: str
    ) -> None:  # fmt: skip
        self.expected, self.p95, self.worst = expected, p95, worst
        self.lifetime, self.method = lifetime, method

    def __add__(self, other: Needs) -> Needs:
        """What the same requests need of two models: both grow with the same lengths."""
        both = None if self.lifetime is None or other.lifetime is None else self.lifetime + other.lifetime
        return Needs(
            self.expected + other.expected, self.p95 + other.p95, self.worst + other.worst, both, self.method
        )


class Priced:
    """The requests of a demand, priced once for any number of them.

    Parameters
    ----------
    demand : Demand
    charge : Charge
        The engine's prices on one rank.
    """

    def __init__(self, demand: Demand, charge: Charge) -> None:
        self.demand, self.charge = demand, charge
        self.once = charge.once(demand)
        self.longest = charge.request(demand, demand.prompt, demand.output)
        self.amounts: Amounts | None = None
        if demand.varies:
            rows = demand.pairs
            self.amounts = Amounts(
                [int(charge.request(demand, p, o)) for p, o, _ in rows], [w for *_, w in rows]
            )
            self.longest = max(self.longest, self.amounts.amounts[-1])

    def needs(self, many: Quantity) -> Needs:
        """What so many of them need. [B]"""
        worst = self.once + many * self.longest
        if self.amounts is None:
            return Needs(worst, worst, worst, self._lifetime(many), "all requests are alike")
        own, once = self.amounts, int(self.once)
        expected = _each(many, lambda n: once + math.ceil(n * own.mean - 1e-6))
        p95 = _each(many, lambda n: once + own.percentile(n))
        method = own.method(int(many.max()) if is_array(many) else int(many))
        return Needs(expected, p95, worst, self._lifetime(many), method)

    def p95(self, many: int) -> int:
        """The percentile alone. [B]"""
        one = many * int(self.longest) if self.amounts is None else self.amounts.percentile(many)
        return int(self.once) + one

    def _lifetime(self, many: Quantity) -> Quantity | None:
        """The average over time: residents are weighted by how long they stay, each partly answered."""
        demand = self.demand
        rows = demand.rows()
        if is_array(demand.prompt) or not any(o for _, o, _ in rows):
            return None
        stay = math.fsum(w * o for _, o, w in rows)
        held = math.fsum(
            w * o * int(self.charge.request(demand, p, max(int(o * share), 1))) / len(MOMENTS)
            for p, o, w in rows if o for share in MOMENTS
        )  # fmt: skip
        mean = held / stay
        return _each(many, lambda n: int(self.once) + math.ceil(n * mean))


def _each(many: Quantity, make: Callable[[int], int]) -> Any:
    """A figure for a number of requests, or for each of an array of numbers."""
    if not is_array(many):
        return make(int(many))
    import numpy as np

    return np.array([make(int(n)) for n in many], dtype=np.int64)
