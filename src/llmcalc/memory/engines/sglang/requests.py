"""Slots of SGLang's pools for requests that vary, share a prefix, or have several outputs.

The radix cache shares whole pages; the last token of a prompt is always computed anew, so it is each
output's own. Windows are counted for each output, what they share of a prompt aside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.demand import Demand
from llmcalc.demand.needs import Needs, Priced
from llmcalc.formula import Quantity, larger, smaller
from llmcalc.memory.engines.sglang.pools import Pool

CASES = ("expected", "p95", "worst", "lifetime")


class Slots:
    """What requests take of the pool of layers that keep all tokens. [tokens]

    References
    ----------
    SGLang 0.5.23, srt/mem_cache/radix_cache.py (``match_prefix``), srt/managers/tokenizer_manager.py, which
    sends the prompt of several outputs ahead.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool, self.shares = pool, pool.options.prefix

    def hit(self, tokens: Quantity) -> Quantity:
        """Tokens of whole pages among so many. [tokens]"""
        return tokens // self.pool.page * self.pool.page if self.shares else tokens * 0

    def once(self, demand: Demand) -> Quantity:
        """Whole pages of the shared prefix. [tokens]"""
        return self.hit(demand.prefix)

    def request(self, demand: Demand, prompt: Quantity, output: Quantity) -> Quantity:
        """One request with all its outputs, beside what is held once. [tokens]"""
        before = larger(prompt - 1, 0)
        found, whole = self.hit(smaller(demand.prefix, before)), self.hit(before)
        aligned = self.pool.aligned(prompt + output)
        if demand.outputs == 1:
            return aligned - found
        return whole - found + demand.outputs * (aligned - whole)


class Windows:
    """What requests take of the pool of layers with a window. [tokens]"""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def once(self, demand: Demand) -> Quantity:
        """Nothing: what several could share is counted for each."""
        return 0

    def request(self, demand: Demand, prompt: Quantity, output: Quantity) -> Quantity:
        """Windows of all outputs. [tokens]"""
        return demand.outputs * smaller(self.pool.aligned(prompt + output), self.pool.window_each)


class Asked:
    """The requests of a demand in one pool, priced once for any number of them.

    Parameters
    ----------
    pool : Pool
        Of one rank class.
    demand : Demand
        What each request asks.
    chunk : int
        Tokens of a prefill chunk. [tokens]
    """

    def __init__(self, pool: Pool, demand: Demand, chunk: int) -> None:
        self.pool, self.demand, self.chunk = pool, demand, chunk
        self.full = Priced(demand, Slots(pool))
        self.window = Priced(demand, Windows(pool)) if pool.window else None

    def _joined(self, full: Quantity, window: Quantity | None) -> Quantity:
        """The ``max_total_num_tokens`` that holds both. [tokens]"""
        return full if window is None else self.pool.both(full, window, self.chunk)

    def tokens(self, many: int) -> int:
        """Tokens of the pool that so many need at the 95th percentile. [tokens]"""
        return int(self._joined(self.full.p95(many), None if self.window is None else self.window.p95(many)))

    def slots(self, many: Quantity) -> Quantity:
        """State slots of so many: a fork is a state of its own, the end of a prefix one for all. [-]"""
        shared = 1 if self.demand.prefix and self.pool.options.prefix else 0
        return many * self.demand.outputs * self.pool.slots_each + shared

    def needs(self, many: Quantity, price: Callable[[Quantity], Quantity]) -> Needs:
        """Bytes of both pools in each case, as `price` makes them of tokens. [B]"""
        full = self.full.needs(many)
        window = None if self.window is None else self.window.needs(many)
        found: dict[str, Any] = {}
        for case in CASES:
            own = getattr(full, case)
            other = None if window is None else getattr(window, case)
            found[case] = None if own is None else price(self._joined(own, other))
        return Needs(**found, method=full.method)
