"""Blocks of TensorRT-LLM's pool for requests that vary, share a prefix, or have several outputs.

Full blocks are reused, in layers that keep all tokens; the last token of a prompt is always computed
anew. Windows and states are counted for each output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.demand import Demand
from llmcalc.formula import Quantity, ceil_div, larger, smaller

if TYPE_CHECKING:
    from llmcalc.memory.engines.tensorrt_llm.items import Pool


class Blocks:
    """What requests take of a pool on one rank class.

    Parameters
    ----------
    pool : Pool
        Its blocks and rows.
    reuses : bool
        Whether full blocks are reused.

    References
    ----------
    TensorRT-LLM 1.2.1, docs/source/features/kvcache.md ("Reuse Across Requests").
    """

    def __init__(self, pool: Pool, reuses: bool) -> None:
        self.pool, self.reuses = pool, reuses
        self.row = pool.rows.get(0, 0)

    def hit(self, tokens: Quantity) -> Quantity:
        """Tokens of full blocks among so many. [tokens]"""
        return tokens // self.pool.block * self.pool.block if self.reuses else tokens * 0

    def once(self, demand: Demand) -> Quantity:
        """The full blocks of the shared prefix. [B]"""
        return self.hit(demand.prefix) * self.row

    def request(self, demand: Demand, prompt: Quantity, output: Quantity) -> Quantity:
        """Blocks and states of one request with all its outputs. [B]"""
        before = larger(prompt - 1, 0)
        found, whole = self.hit(smaller(demand.prefix, before)), self.hit(before)
        kept = ceil_div(prompt + output, self.pool.block) * self.pool.block
        one = kept - found
        tokens = one if demand.outputs == 1 else whole - found + demand.outputs * (kept - whole)
        rest = self.pool.need(prompt + output) - kept * self.row + self.pool.state
        return tokens * self.row + demand.outputs * rest
