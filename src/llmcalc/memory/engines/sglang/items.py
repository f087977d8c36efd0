"""The items of an estimate for SGLang, in the contract's order, and the budget they leave."""

from __future__ import annotations

from llmcalc.engine_options.sglang import SglangOptions
from llmcalc.engine_options.vllm_era import era_of
from llmcalc.estimate import Item
from llmcalc.formula import Quantity, ceil_div, larger
from llmcalc.hardware import Device
from llmcalc.memory.engines import startup
from llmcalc.memory.engines.sglang import SOURCE, reserve
from llmcalc.memory.engines.sglang.pools import Pool, pools
from llmcalc.memory.engines.sglang.weights import delta_item
from llmcalc.memory.engines.vllm.profile import Batch, activation_bytes
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.units import MIB

SERVING = ("prefill", "decode")

GRAPH, GRAPH_OLD = 7 * MIB // 10, 24 * MIB // 10
"""CUDA graphs for each layer and captured batch size, since 0.5.6 and before. [B]"""

GRAPH_SPREAD, FORWARD_SPREAD = (40, 180), (60, 160)
"""Low and high of graphs and activations, in percent. [%]"""

UNEVEN = 4
"""By so much of a GPU's memory the rank with least may lie below the one that prints. [1/1000]"""

LOGS = "SGLang's issues and pull requests: start-up logs of 0.2 to 0.5"


class Server:
    """One model as SGLang serves it, on every rank class.

    Attributes
    ----------
    plan : Plan
        Chunk, graphs and share.
    pools : list of Pool
        The pools of each stage.
    is_bare : bool
        Whether the device is a bare size: what is free when loading begins.
    """

    def __init__(
        self, inventory: Inventory, placement: Placement, precision: Precision, options: SglangOptions,
        device: Device | None, sparse: bool,
    ) -> None:  # fmt: skip
        self.inventory, self.placement, self.precision, self.options = (
            inventory, placement, precision, options,
        )  # fmt: skip
        self.device = device
        self.is_bare = device is not None and device.basis.startswith("the size as given")
        self.plan = reserve.plan(options, device, inventory, placement.pp)
        self.pools: list[Pool] = pools(inventory, placement, precision, options, sparse)

    def items(self, tokens: Quantity, sequences: Quantity) -> list[Item]:
        """Weights, pools, activations, graphs and runtime of each rank class."""
        return [
            delta_item(self.inventory, self.placement, self.precision),
            self._kv(tokens, sequences),
            self._state(tokens, sequences),
            self._activations(),
            self._graphs(),
            self._runtime(),
        ]

    def slots_for(self, pool: Pool, sequences: Quantity) -> Quantity:
        """State slots that so many requests need. [-]"""
        return pool.slots(0) if pool.is_fixed else sequences * pool.slots_each

    def needs(self, pool: Pool, tokens: Quantity, sequences: Quantity) -> tuple[Quantity, Quantity]:
        """Bytes of the smallest pools that hold sequences: keys and values, states. [B]

        Where states have a fixed share of the memory, both pools grow until both hold what they must.
        """
        caches = pool.cache_bytes(pool.tokens_for(tokens, sequences, self.plan.chunk))
        if not pool.state:
            return caches, 0
        slots = self.slots_for(pool, sequences)
        if pool.is_fixed:
            return caches, pool.state_bytes(pool.slots(0))
        if not pool.cell[0]:  # the other share lies idle
            return 0, pool.least(slots)
        return pool.shared(caches, slots)

    def short(self, tokens: int, sequences: int) -> int:
        """By how much pools whose sizes are set by hand are too small for sequences. [B]"""
        most = 0
        for pool in self.pools:
            missing = 0
            if self.options.tokens is not None:
                held = self.options.tokens // pool.page * pool.page
                asked = int(pool.cache_bytes(pool.tokens_for(tokens, sequences, self.plan.chunk)))
                missing += max(asked - int(pool.cache_bytes(held)), 0)
            if pool.state and pool.is_fixed:
                missing += max(sequences * pool.slots_each - pool.slots(0), 0) * pool.state
            most = max(most, missing)
        return most

    def _kv(self, tokens: Quantity, sequences: Quantity) -> Item:
        amounts = [self.needs(pool, tokens, sequences)[0] for pool in self.pools]
        worst = max(self.pools, key=lambda pool: pool.cell[0] * pool.cell[1])
        above, below = worst.cell
        note = "no attention to remember"
        if above:
            note = f"{above / below:,.0f} B a token, pages of {worst.page}"
        if worst.window and worst.full:
            share = worst.ratio[0] / worst.ratio[1]
            note = f"{worst.full:,} B a token, {share:g} x {worst.window:,} B for windows"
        return Item(
            "kv_cache", amounts, phases=SERVING, grade="derived", formula="sglang pools", source=SOURCE,
            inputs={"tokens": tokens, "sequences": sequences, "bytes_per_token": ceil_div(above, below),
                    "page_size": worst.page},
            note=note,
        )  # fmt: skip

    def _state(self, tokens: Quantity, sequences: Quantity) -> Item:
        held = [self.needs(pool, tokens, sequences)[1] for pool in self.pools]
        worst = max(self.pools, key=lambda pool: pool.state)
        note = "no recurrent layers"
        if worst.state:
            each = f"{worst.slots_each} slots a request"
            note = f"{self.slots_for(worst, 1)} slots, fixed" if worst.is_fixed else f"{each}, a fixed share"
        return Item(
            "state", held, phases=SERVING, grade="derived" if worst.state else "exact",
            formula="sglang state slots", source=SOURCE,
            inputs={"bytes_per_slot": worst.state, "sequences": sequences}, note=note,
        )  # fmt: skip

    def _activations(self) -> Item:
        batch, tp = Batch(self.plan.chunk, 1), self.placement.tp
        own = [activation_bytes(self.inventory, batch, era_of(None), tp, False)] * self.placement.pp
        low, high = FORWARD_SPREAD
        return Item(
            "activations", own, low=[n * low // 100 for n in own], high=[n * high // 100 for n in own],
            phases=("prefill",), grade="assumed", formula="forward pass of a chunk", source=SOURCE,
            inputs={"chunked_prefill_size": self.plan.chunk}, note=f"a chunk of {self.plan.chunk:,} tokens",
        )  # fmt: skip

    def _graphs(self) -> Item:
        each = GRAPH if self.options.era.shares_graphs else GRAPH_OLD
        own = [
            0 if self.options.eager else each * self.plan.sizes * (end - start)
            for start, end in self.placement.stages
        ]
        low, high = GRAPH_SPREAD
        return Item(
            "cuda_graphs", own, low=[n * low // 100 for n in own], high=[n * high // 100 for n in own],
            phases=SERVING, grade="exact" if self.options.eager else "assumed",
            formula="sglang graphs" if any(own) else "none", source=LOGS,
            note="none: --disable-cuda-graph" if self.options.eager
            else f"{self.plan.sizes} batch sizes up to {self.plan.graphs}",
        )  # fmt: skip

    def _runtime(self) -> Item:
        many, context, links = self.placement.pp, *self._before()
        parts, page = [], max(pool.page * pool.cell[0] // pool.cell[1] for pool in self.pools)
        for name, amount, spread, note in (
            ("context", context, startup.CONTEXT_SPREAD, "CUDA's, before anything loads"),
            ("communication", links, startup.NCCL_SPREAD, "NCCL, before anything loads"),
            ("images", self.images, 0, "embeddings of images, off the budget"),
            ("padding page", page, 0, "beside the budget"),
        ):
            if amount:
                parts.append(
                    Item(name, [amount] * many, low=[amount - amount * spread // 100] * many,
                         high=[amount + amount * spread // 100] * many, formula="constant",
                         grade="calibrated" if spread else "derived", inputs={"bytes": amount},
                         source=startup.SOURCE if spread else SOURCE, note=note)
                )  # fmt: skip
        low, whole, high = (
            sum(int(getattr(part, end)[0]) for part in parts) for end in ("low", "amounts", "high")
        )
        note = "a bare size counts as free when loading begins" if self.is_bare else "context and NCCL"
        return Item(
            "runtime", [whole] * many, low=[low] * many, high=[high] * many,
            grade="calibrated" if parts else "exact", formula="sum of parts", source=LOGS, note=note,
            items=parts,
        )  # fmt: skip

    def _before(self) -> tuple[int, int]:
        """The CUDA context, and NCCL between tensor ranks: gone before anything loads. [B]"""
        if self.is_bare:
            return 0, 0
        ranks = self.options.ranks if self.options.shares_batch else self.placement.tp
        return startup.before_load(None if self.device is None else self.device.memory_bytes, ranks)

    @property
    def before(self) -> int:
        """What is gone of the memory before anything loads. [B]"""
        return sum(self._before())

    @property
    def images(self) -> int:
        """Set aside for embeddings of images. [B]"""
        towers = any(g.component in ("vision", "audio") for g in self.inventory.groups)
        return reserve.IMAGES if towers and self.options.era.reserves_images else 0

    def static(self, usable: int) -> int:
        """What weights and pools may take of the memory that a process can have. [B]"""
        above, below = self.plan.fraction
        return max(usable - self.before, 0) * above // below - self.images

    def budgets(self, items: list[Item], usable: int, end: str = "amounts") -> list[int]:
        """What is left for pools on each rank class; `end` is ``low``, ``amounts`` or ``high``. [B]"""
        weights = next(item for item in items if item.name == "weights")
        uneven = usable * UNEVEN // 1000 if end == "high" and self.placement.tp > 1 else 0
        return [self.static(usable) - int(amount) - uneven for amount in getattr(weights, end)]

    def outside(self, items: list[Item], stage: int, end: str = "amounts") -> int:
        """What lies outside that share: activations, graphs, what is gone before. [B]"""
        names = ("activations", "cuda_graphs", "runtime")
        return sum(int(getattr(item, end)[stage]) for item in items if item.name in names)
