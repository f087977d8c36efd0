"""The items of an estimate for vLLM, in the contract's order, and the budget they leave."""

from __future__ import annotations

from copy import copy
from math import isqrt
from typing import Any

from llmcalc.demand import Demand
from llmcalc.demand.needs import Needs, Priced
from llmcalc.engine_options.vllm import VllmOptions
from llmcalc.estimate import Item
from llmcalc.formula import Quantity
from llmcalc.hardware import Device
from llmcalc.memory.engines.vllm import SOURCE, profile
from llmcalc.memory.engines.vllm.packed import is_packed, packed_pools
from llmcalc.memory.engines.vllm.pages import Pool, Settings, pools
from llmcalc.memory.engines.vllm.requests import Blocks
from llmcalc.memory.engines.vllm.spreads import PARTS, SPREADS, ends, graph_kind
from llmcalc.memory.engines.vllm.weights import loaded_item
from llmcalc.memory.requests import kv_of
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement

SERVING = ("prefill", "decode")


class Loaded:
    """What is loaded beside the model.

    Attributes
    ----------
    items : list of Item
        Weights of a draft, adapters.
    draft : Inventory or None
        A draft whose caches are pages of the same pool.
    predicts : bool
        Whether the model's own prediction layers draft.
    image_tokens : int
        Tokens of the largest image; 0 where none is asked for. [tokens]
    """

    __slots__ = ("draft", "image_tokens", "items", "predicts")

    def __init__(self, draft: Inventory | None = None, predicts: bool = True) -> None:
        self.draft, self.predicts = draft, predicts
        self.items: list[Item] = []
        self.image_tokens = 0


class Server:
    """One model as vLLM serves it, on every rank class.

    Attributes
    ----------
    batch : Batch
        Tokens and sequences that are profiled. [tokens], [-]
    pools : list of Pool
        The pages of each stage.
    settings : Settings
        What shapes them.
    """

    def __init__(
        self, inventory: Inventory, placement: Placement, precision: Precision, options: VllmOptions,
        device: Device | None, length: int, streams: dict[str, Any], sparse: bool,
        beside: Loaded | None = None, follows: bool = False,
    ) -> None:  # fmt: skip
        self.beside = beside or Loaded()
        self.inventory, self.placement, self.precision, self.options = (
            inventory, placement, precision, options,
        )  # fmt: skip
        era, self.device = options.era, device
        batch = profile.default_batch(device, era, length)
        self.batch = profile.Batch(options.batched or batch.tokens, options.seqs or batch.seqs)
        overlap = era.counts_async if options.overlap is None else options.overlap
        made = Settings(era, self.batch.tokens * ((placement.pp + 1) if overlap else placement.pp))
        made.block, made.drafts, made.prefix, made.dcp = (
            options.block, options.drafts, options.prefix, options.dcp,
        )  # fmt: skip
        kinds = {cache.kind for group in inventory.groups for cache in group.caches}
        made.hybrid = (era.is_hybrid or (era.is_v1 and kinds == {"window"})) and not options.whole_windows
        made.streams, made.sparse, made.predicts = streams, sparse, self.beside.predicts
        made.follows = follows
        self.settings = made
        self.pools: list[Pool] = (
            packed_pools(inventory, placement, precision, made, self.beside.draft)
            if is_packed(inventory)
            else pools(inventory, placement, precision, made, self.beside.draft)
        )

    def items(self, tokens: Quantity, sequences: Quantity, demand: Demand | None = None) -> list[Item]:
        """Weights, pages, peak, graphs and runtime of each rank class.

        Parameters
        ----------
        tokens, sequences : int or ndarray
            Of the longest request, and requests held at once. [tokens], [-]
        demand : Demand, optional
            Requests that are not all alike: pages are those of the 95th percentile.
        """
        kv, state = self._kv(tokens, sequences), self._state(sequences)
        if demand is not None:
            state = self._state(sequences * demand.outputs)
            kv = kv_of(self.needs(demand, sequences), state.amounts, demand, sequences, kv)
        return [
            loaded_item(self.inventory, self.placement, self.precision, self.options.era),
            kv,
            state,
            self._activations(),
            self._graphs(),
            self._runtime(),
            # Anew for each estimate: the shares at the peak are set on the items.
            *[item.anew() for item in self.beside.items],
        ]

    def needs(self, demand: Demand, sequences: Quantity) -> list[Needs]:
        """Pages and states that requests need of each rank class. [B]"""
        return [Priced(demand, Blocks(pool)).needs(sequences) for pool in self.pools]

    def _kv(self, tokens: Quantity, sequences: Quantity) -> Item:
        amounts = [
            (pool.blocks_of(tokens) - pool.state_blocks) * pool.block_bytes * sequences for pool in self.pools
        ]
        worst = max(self.pools, key=lambda pool: pool.block_bytes)
        many = sum(count for _, count in worst.groups)
        note = "no attention to remember"
        if worst.groups:
            note = f"blocks of {worst.block} tokens, {many} x {worst.width} layers"
        if worst.padding:
            note += f", {worst.padding} of them padding"
        return Item(
            "kv_cache", amounts, phases=SERVING, grade="derived", formula="vllm pages", source=SOURCE,
            inputs={"tokens": tokens, "sequences": sequences, "block_bytes": worst.block_bytes,
                    "block": worst.block, "groups": many, "padding": worst.padding,
                    "in_flight": self.settings.in_flight},
            note=note,
        )  # fmt: skip

    def _state(self, sequences: Quantity) -> Item:
        held = [pool.state_blocks for pool in self.pools]
        return Item(
            "state", [n * pool.block_bytes * sequences for n, pool in zip(held, self.pools, strict=True)],
            phases=SERVING, grade="derived" if any(held) else "exact", formula="vllm pages", source=SOURCE,
            inputs={"blocks": max(held), "sequences": sequences},
            note=f"{max(held)} blocks a sequence" if any(held) else "no recurrent layers",
        )  # fmt: skip

    def _activations(self) -> Item:
        last = self.placement.pp - 1
        found = [
            profile.peak_of(
                self.inventory,
                self.batch,
                self.options.era,
                self.placement.tp,
                stage == last,
                image_tokens=self.beside.image_tokens,
            )
            for stage in range(last + 1)
        ]
        own, (_, kind) = [amount for amount, _ in found], max(found)
        low, high = ends("activations", kind, own)
        return Item(
            "activations", own, low=low, high=high,
            grade="calibrated", formula="vllm profiling run", source=profile.SOURCE,
            inputs={"max_num_seqs": self.batch.seqs, "max_num_batched_tokens": self.batch.tokens,
                    "range": kind},
            note=f"profiled with {self.batch.seqs:,} sequences, {self.batch.tokens:,} tokens",
        )  # fmt: skip

    def _graphs(self) -> Item:
        stages = self.placement.stages
        own = [
            0
            if self.options.eager
            else profile.graph_bytes(self.inventory, end - start, self.options.era, self.batch.seqs)
            for start, end in stages
        ]
        if self.beside.draft is not None and not self.options.eager:
            own[-1] += profile.GRAPH_LAYER * sum(len(group.layers) for group in self.beside.draft.groups)
        kind = graph_kind(self.options.era)
        low, high = ends("cuda_graphs", kind, own)
        outside = "" if self.options.era.counts_graphs else ", beside the budget"
        return Item(
            "cuda_graphs", own, low=low, high=high, inputs={"range": kind}, phases=SERVING,
            grade="exact" if self.options.eager else "calibrated",
            formula="vllm graphs" if any(own) else "none", source=profile.SOURCE,
            note="none: --enforce-eager" if self.options.eager else f"full and piecewise{outside}",
        )  # fmt: skip

    def _runtime(self) -> Item:
        counted, many = self.non_torch, self.placement.pp
        kind = "old" if not self.options.era.is_v1 else "one" if self.placement.tp == 1 else "many"
        low, high = ends("non_torch", kind, [counted] * many)
        parts = [
            Item(
                "non_torch", [counted] * many, low=low, high=high, grade="calibrated", formula="constant",
                inputs={"bytes": counted, "range": kind}, source=profile.SOURCE,
                note="NCCL, workspaces, kernels",
            ),
            Item(
                "context", [self.context] * many, grade="calibrated", formula="constant",
                inputs={"bytes": self.context}, source=profile.SOURCE,
                note="the CUDA context, beside the budget",
            ),
        ]  # fmt: skip
        low_end, high_end = (
            [sum(int(getattr(part, end)[0]) for part in parts)] * many for end in ("low", "high")
        )
        return Item(
            "runtime", [counted + self.context] * many, low=low_end, high=high_end,
            grade="calibrated", formula="sum of parts", source=profile.SOURCE, items=parts,
            note="NCCL and kernels; the CUDA context beside the budget",
        )  # fmt: skip

    @property
    def non_torch(self) -> int:
        """What the budget counts beside PyTorch. [B]"""
        return profile.non_torch_bytes(self.options.era, self.placement.tp, self.placement.pp)

    @property
    def context(self) -> int:
        """The CUDA context, which the budget does not count. [B]"""
        return profile.CONTEXT if self.placement.tp == 1 else profile.CONTEXT_MANY

    def outside(self, items: list[Item], stage: int, end: str = "amounts") -> int:
        """What a rank takes that the budget does not count; `end` is ``low``, ``amounts`` or ``high``. [B]"""
        graphs = next(item for item in items if item.name == "cuda_graphs")
        return self.context + (0 if self.options.era.counts_graphs else int(getattr(graphs, end)[stage]))

    def most_outside(self, items: list[Item]) -> int:
        """The same on the rank class that takes most. [B]"""
        return max(self.outside(items, stage) for stage in range(self.placement.pp))

    @property
    def reads_whole(self) -> bool:
        """Whether the profiling run is as long as the longest request: before V1, by default."""
        return not self.options.era.is_v1 and self.options.batched is None

    def at(self, length: int) -> Server:
        """The same server with requests up to another length. [tokens]"""
        made = copy(self)
        tokens = profile.default_batch(self.device, self.options.era, length).tokens
        made.batch = profile.Batch(tokens, self.batch.seqs)
        return made

    def profiled(self) -> Item:
        """The peak of the profiling run."""
        return self._activations()

    def counted(self, items: list[Item], stage: int) -> int:
        """What the budget counts on a rank before any page. [B]"""
        used = -self.context
        for item in items:
            beside = item.name == "cuda_graphs" and not self.options.era.counts_graphs
            if item.name not in ("kv_cache", "state") and not beside:
                used += int(item.amounts[stage])
        return used

    def budgets(self, items: list[Item], requested: int, end: str = "amounts") -> list[int]:
        """What is left for pages on each rank class; `end` is ``low``, ``amounts`` or ``high``. [B]"""
        stages = range(self.placement.pp)
        if self.options.pool is not None:
            return [self.options.pool for _ in stages]
        left = [requested - self.counted(items, stage) for stage in stages]
        if end == "amounts":
            return left
        low, high = SPREADS["kv_budget"][self._budget_kind(items)]
        sign, share = (-1, low) if end == "low" else (1, high)
        own = requested * share // PARTS
        return [
            left[stage] + sign * isqrt(own**2 + self._graphs_off(items, stage, end) ** 2) for stage in stages
        ]

    def _budget_kind(self, items: list[Item]) -> str:
        kind = next(str(item.inputs["range"]) for item in items if item.name == "activations")
        if kind in SPREADS["kv_budget"]:
            return kind
        return "one" if self.placement.tp == 1 else "many"

    def _graphs_off(self, items: list[Item], stage: int, end: str) -> int:
        """How far graphs that the budget counts may be off; few logs have them, so their own range. [B]"""
        graphs = next(item for item in items if item.name == "cuda_graphs")
        if not self.options.era.counts_graphs:
            return 0
        far = graphs.high if end == "low" else graphs.low
        return int(far[stage]) - int(graphs.amounts[stage])
