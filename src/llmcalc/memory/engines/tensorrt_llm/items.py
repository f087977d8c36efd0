"""The items of an estimate for TensorRT-LLM, and the pool they leave.

Its documents say how the pool comes about: a share (0.9) of what is free once weights are loaded and a
dummy batch has run. Three published logs agree with that share; weights, activations and graphs have
none, so they are assumed.
"""

from __future__ import annotations

from typing import Any

from llmcalc.demand import Demand
from llmcalc.demand.needs import Needs, Priced
from llmcalc.engine_options.tensorrt_llm import TensorrtLlmOptions
from llmcalc.engine_options.vllm_era import era_of
from llmcalc.errors import InputError
from llmcalc.estimate import Item
from llmcalc.formula import Quantity, ceil_div, smaller
from llmcalc.hardware import Device
from llmcalc.memory.caches import STATE_BYTES
from llmcalc.memory.engines import startup
from llmcalc.memory.engines.loaded import Loaded
from llmcalc.memory.engines.tensorrt_llm import SOURCE
from llmcalc.memory.engines.tensorrt_llm.requests import Blocks
from llmcalc.memory.engines.vllm.profile import Batch, activation_bytes
from llmcalc.memory.engines.vllm.weights import with_shares
from llmcalc.memory.folds import weights_item
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Cache, Inventory
from llmcalc.placement import Placement, rank_width
from llmcalc.units import MIB

SERVING = ("prefill", "decode")

WEIGHTS_HIGH = 5
"""How much more than the tensors a load may take: padding and copies of kernels. [%]"""

FORWARD_SPREAD, GRAPH_SPREAD = (50, 300), (0, 300)
"""Low and high of activations and graphs. [%]"""

GRAPH, SIZES = 7 * MIB // 10, 34
"""CUDA graphs for each layer and batch size, as SGLang's; the sizes that are captured up to 128. [B], [-]"""


class Pool:
    """The blocks of one rank class.

    Attributes
    ----------
    rows : dict
        Bytes of one token by how many tokens the layers keep; 0 is all of them. [B]
    state : int
        Bytes of the recurrent states of one sequence. [B]
    block : int
        Tokens of a block. [tokens]
    """

    __slots__ = ("block", "in_flight", "rows", "state")

    def __init__(self, block: int, in_flight: int) -> None:
        self.block, self.in_flight = block, in_flight
        self.rows: dict[int, int] = {}
        self.state = 0

    def need(self, tokens: Quantity) -> Quantity:
        """Bytes of the blocks that one request of a length takes at most. [B]

        Layers with a window give back what lies behind it and behind the tokens in flight.

        Examples
        --------
        >>> pool = Pool(32, 8192)
        >>> pool.rows = {0: 131_072}
        >>> pool.need(33) // 2**20
        8
        """
        total: Quantity = 0
        for limit, row in self.rows.items():
            kept = smaller(tokens, limit + self.in_flight + self.block) if limit else tokens
            total = total + ceil_div(kept, self.block) * self.block * row
        return total

    @property
    def row(self) -> int:
        """Bytes of one token of all layers, windows as long as they last. [B]"""
        return sum(self.rows.values())


class Server:
    """One model as TensorRT-LLM serves it, on every rank class."""

    def __init__(
        self, inventory: Inventory, placement: Placement, precision: Precision, options: TensorrtLlmOptions,
        device: Device | None, beside: Loaded | None = None,
    ) -> None:  # fmt: skip
        self.beside = beside or Loaded()
        self.inventory, self.placement, self.precision, self.options = (
            inventory, placement, precision, options,
        )  # fmt: skip
        self.device = device
        self.pools = [self._pool(stage) for stage in range(placement.pp)]

    def _pool(self, stage: int) -> Pool:
        pool = Pool(self.options.block, self.options.tokens)
        for group in self.inventory.groups:
            count = self.placement.count(group, stage)
            for cache in group.caches if count else ():
                if cache.kind in ("compressed", "tail") or cache.stream == "encoder":
                    raise InputError(
                        f"The caches of {self.inventory.name} in TensorRT-LLM are not modelled.",
                        "Leave --engine tensorrt-llm out for the architecture's minimum.",
                    )
                if cache.is_state:
                    pool.state += count * self._state(cache)
                    continue
                limit = (cache.positions or 0) if cache.kind == "window" else 0
                pool.rows[limit] = pool.rows.get(limit, 0) + count * self._row(cache, self.placement.tp)
        if stage == self.placement.pp - 1:
            self._add_draft(pool)
        return pool

    def _add_draft(self, pool: Pool) -> None:
        """A draft's caches: of the same length as the model's, out of the same share."""
        draft, placed = self.beside.draft, self.beside.placement
        for group in draft.groups if draft is not None and placed is not None else ():
            for cache in group.caches:
                if cache.is_state or cache.stream == "encoder" or cache.kind in ("compressed", "tail"):
                    raise InputError(
                        f"{draft.name if draft else ''} as a draft keeps more than keys and values; that is "
                        "not modelled.",
                        "Name a draft with attention alone, or a head: --draft eagle3.",
                    )
                row = self._row(cache, placed.tp if placed is not None else 1)
                pool.rows[0] = pool.rows.get(0, 0) + max(len(group.layers), 1) * row

    def _row(self, cache: Cache, tp: int) -> int:
        """Bytes of one token of one layer on one tensor rank."""
        widths = [rank_width(cache, part, tp) for part in range(len(cache.parts))]
        kept: list[Any] = [
            self.precision.value if name == "v" else self.precision.key for name, _ in cache.parts
        ]
        if cache.kind == "indexer":
            return sum(widths) + -(-sum(widths) // 128) * 4
        pairs = zip(widths, kept, strict=True)
        row = 0
        for width, form in pairs:
            row += -(-width * int(form.block_bytes) // int(form.elements))
        return row

    def _state(self, cache: Cache) -> int:
        """Bytes of one state: in the model's dtype unless the configuration names another."""
        width = sum(rank_width(cache, part, self.placement.tp) for part in range(len(cache.parts)))
        own = int(self.precision.model.bytes_per_element)
        if cache.kind == "conv":
            return width * (cache.positions or 0) * own
        return width * (STATE_BYTES[self.inventory.state_dtype] if self.inventory.state_dtype else own)

    def needs(self, demand: Demand, sequences: Quantity) -> list[Needs]:
        """Blocks and states that requests need of each rank class. [B]"""
        return [Priced(demand, charge).needs(sequences) for charge in self.charges]

    @property
    def charges(self) -> list[Blocks]:
        """Prices of requests on each rank class."""
        return [Blocks(pool, self.options.reuses) for pool in self.pools]

    def items(self, tokens: Quantity, sequences: Quantity, demand: Demand | None = None) -> list[Item]:
        """Weights, blocks, activations, graphs and runtime of each rank class.

        Parameters
        ----------
        tokens, sequences : int or ndarray
            Of the longest request, and requests held at once. [tokens], [-]
        demand : Demand, optional
            Requests that are not all alike: blocks are those of the 95th percentile.
        """
        many, options = self.placement.pp, self.options
        outputs = 1 if demand is None else demand.outputs
        states = [pool.state * sequences * outputs for pool in self.pools]
        blocks = [pool.need(tokens) * sequences for pool in self.pools]
        if demand is not None:
            pairs = zip(self.needs(demand, sequences), states, strict=True)
            blocks = [need.p95 - state for need, state in pairs]
        weights = weights_item(with_shares(self.inventory, self.placement), self.placement, self.precision)
        forward = activation_bytes(
            self.inventory, Batch(options.tokens, 1), era_of(None), self.placement.tp, False
        )
        graphs = [
            0 if options.eager else GRAPH * SIZES * (end - start) for start, end in self.placement.stages
        ]
        row, kinds = max(pool.row for pool in self.pools), max(len(pool.rows) for pool in self.pools)
        rows = f"{row:,} B a token, blocks of {options.block}" if kinds else "no attention to remember"
        return [
            Item("weights", weights.amounts, low=weights.amounts,
                 high=[int(n) * (100 + WEIGHTS_HIGH) // 100 for n in weights.amounts], grade="assumed",
                 formula=weights.formula, inputs=weights.inputs, source=weights.source, note=weights.note,
                 items=weights.items),
            Item("kv_cache", blocks, phases=SERVING,
                 grade="derived" if kinds < 2 else "assumed", formula="tensorrt-llm blocks", source=SOURCE,
                 inputs={"tokens": tokens, "sequences": sequences, "bytes_per_token": row,
                         "tokens_per_block": options.block,
                         **({} if demand is None else demand.to_dict())}, note=rows),
            Item("state", states, phases=SERVING,
                 grade="assumed" if any(pool.state for pool in self.pools) else "exact",
                 formula="sum of states", source=SOURCE, inputs={"sequences": sequences},
                 note="one a sequence" if any(p.state for p in self.pools) else "no recurrent layers"),
            self._assumed("activations", [forward] * many, FORWARD_SPREAD, "forward pass of a batch",
                          f"a dummy batch of {options.tokens:,} tokens"),
            self._assumed("cuda_graphs", graphs, GRAPH_SPREAD, "graphs of a batch",
                          "none: --enforce-eager" if options.eager else "beside the pool"),
            self._runtime(),
            *self.beside.fresh(),
        ]  # fmt: skip

    def _assumed(self, name: str, own: list[int], spread: tuple[int, int], formula: str, note: str) -> Item:
        low, high = spread
        return Item(
            name, own, low=[n * low // 100 for n in own], high=[n * high // 100 for n in own],
            grade="assumed" if any(own) else "exact", formula=formula if any(own) else "none",
            source=SOURCE, note=note,
        )  # fmt: skip

    def _runtime(self) -> Item:
        memory = None if self.device is None else self.device.memory_bytes
        context, links = startup.before_load(memory, self.placement.tp)
        whole, many = context + links, self.placement.pp
        off = context * startup.CONTEXT_SPREAD // 100 + links * startup.NCCL_SPREAD // 100
        return Item(
            "runtime", [whole] * many, low=[whole - off] * many, high=[whole + off] * many, grade="assumed",
            formula="constant", inputs={"bytes": whole}, source=startup.SOURCE, note="context and NCCL",
        )  # fmt: skip

    def budgets(self, items: list[Item], usable: int, end: str = "amounts") -> list[int]:
        """The pool of each rank class: a share of what is left; `end` is ``low``, ... ``high``. [B]"""
        above, below = self.options.fraction
        names = ("weights", "activations", "runtime", "draft_weights")
        taken = [item for item in items if item.name in names]
        left = [
            usable - sum(int(getattr(item, end)[stage]) for item in taken)
            for stage in range(self.placement.pp)
        ]
        return [room * above // below if room > 0 else room for room in left]
