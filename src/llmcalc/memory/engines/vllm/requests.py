"""Blocks of vLLM's pool for requests that vary, share a prefix, or have several outputs.

Only full blocks are shared, through the prefix cache; the last token of a prompt is always computed
anew, so the block that holds it is each output's own.
"""

from __future__ import annotations

from llmcalc.demand import Demand
from llmcalc.formula import Quantity, ceil_div, larger, smaller, where
from llmcalc.memory.engines.vllm.pages import Pool, Spec


class Blocks:
    """What requests take of a pool on one rank class.

    Parameters
    ----------
    pool : Pool
        Its blocks and groups of layers.

    References
    ----------
    vLLM 0.33.0, v1/core/kv_cache_manager.py (``get_computed_blocks``), v1/engine/parallel_sampling.py.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        made = pool.settings
        self.caches = caches_prefixes(pool)
        self.forks = not made.era.is_v1
        """Before V1 the outputs of one request shared their blocks without a prefix cache."""
        self.step = max((spec.block for spec, _ in pool.groups if spec.kind != "state"), default=1) * made.dcp

    def hit(self, tokens: Quantity) -> Quantity:
        """Tokens of full blocks among so many. [tokens]"""
        return tokens // self.step * self.step

    def once(self, demand: Demand) -> Quantity:
        """The full blocks of the shared prefix. [B]"""
        if not (self.caches and demand.prefix):
            return 0
        hit = self._prefix(demand, demand.prefix)
        return self.pool.block_bytes * self._shared(hit, 0, demand.least)

    def _prefix(self, demand: Demand, prompt: Quantity) -> Quantity:
        """Tokens of the shared prefix that a prompt finds in the cache. [tokens]"""
        return self.hit(smaller(demand.prefix, larger(prompt - 1, 0))) if self.caches else 0

    def request(self, demand: Demand, prompt: Quantity, output: Quantity) -> Quantity:
        """Blocks of one request with all its outputs. [B]"""
        found = self._prefix(demand, prompt)
        one = self._own(prompt + output, found)
        alone = demand.outputs * one
        if demand.outputs == 1 or not (self.caches or self.forks):
            return self.pool.block_bytes * alone
        whole = self.hit(larger(prompt - 1, 0))
        together = self._shared(whole, found, output) + demand.outputs * self._own(prompt + output, whole)
        # Whoever reads the prompt has all of it in flight, whatever windows give back later.
        return self.pool.block_bytes * smaller(alone, larger(one, together))

    def _shared(self, end: Quantity, start: Quantity, after: Quantity) -> Quantity:
        """Blocks from one full block to another that several hold together, so many tokens on. [-]"""
        total: Quantity = 0
        for spec, many in self.pool.groups:
            total = total + many * self._shared_pages(spec, end - start, after)
        return total

    def _shared_pages(self, spec: Spec, tokens: Quantity, after: Quantity) -> Quantity:
        reach = spec.block * self.pool.settings.dcp
        if spec.kind == "state":
            return where(tokens > 0, 1 if self.caches else 0, 0)  # the state at the end of the prefix
        if spec.kind == "cross":
            return 0
        if spec.kind in ("window", "chunk"):
            # What lies further back than the newest reach is given back.
            rest = larger(spec.limit - 1 + self.pool.settings.in_flight - after, 0)
            tokens = smaller(smaller(tokens, spec.limit), rest)
        return ceil_div(tokens, reach)

    def _own(self, tokens: Quantity, found: Quantity) -> Quantity:
        """Blocks of one output beyond the tokens that it finds. [-]"""
        return self.pool.blocks_of(tokens, found)


def caches_prefixes(pool: Pool) -> bool:
    """Whether the server keeps full blocks for requests to come: by default since V1, but for states."""
    made = pool.settings
    has_states = any(spec.kind == "state" for spec, _ in pool.groups)
    return made.prefix or (made.era.is_v1 and not has_states)
