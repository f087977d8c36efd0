"""The items of an estimate for SGLang, in the contract's order, and the budget they leave."""

from __future__ import annotations

from llmcalc.demand import Demand
from llmcalc.demand.needs import Needs
from llmcalc.engine_options.sglang import SglangOptions
from llmcalc.engine_options.vllm_era import era_of
from llmcalc.estimate import Item
from llmcalc.formula import Quantity, ceil_div, is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines import startup
from llmcalc.memory.engines.loaded import Loaded
from llmcalc.memory.engines.sglang import SOURCE, reserve
from llmcalc.memory.engines.sglang.pools import Pool, draft_row, pools
from llmcalc.memory.engines.sglang.requests import Asked
from llmcalc.memory.engines.sglang.weights import delta_item
from llmcalc.memory.engines.vllm.packed import is_packed
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

PACKED_SPREAD = (50, 150)
"""The same of compressed caches, whose rings releases size in several ways and no log here shows. [%]"""

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
        device: Device | None, sparse: bool, beside: Loaded | None = None,
    ) -> None:  # fmt: skip
        self.beside = beside or Loaded()
        self._last: dict[int, Asked] = {}
        self.inventory, self.placement, self.precision, self.options = (
            inventory, placement, precision, options,
        )  # fmt: skip
        self.device = device
        self.is_bare = device is not None and device.basis.startswith("the size as given")
        self.plan = reserve.plan(options, device, inventory, placement.pp)
        draft = None
        if self.beside.draft is not None and self.beside.placement is not None:
            draft = (self.beside.draft, self.beside.placement)
        inside = draft if options.era.counts_draft else None
        self.row_outside = 0
        if draft is not None and inside is None:  # its pool is as long as the model's, in the rest
            self.row_outside = draft_row(*draft, precision, sparse)
        self.pools: list[Pool] = pools(inventory, placement, precision, options, sparse, inside)

    def items(self, tokens: Quantity, sequences: Quantity, demand: Demand | None = None) -> list[Item]:
        """Weights, pools, activations, graphs and runtime of each rank class.

        Parameters
        ----------
        tokens, sequences : int or ndarray
            Of the longest request, and requests held at once. [tokens], [-]
        demand : Demand, optional
            Requests that are not all alike: pools are those of the 95th percentile.
        """
        asked = [self.asked(pool, tokens, sequences, demand) for pool in self.pools]
        held = [pool.cost(*one) for pool, one in zip(self.pools, asked, strict=True)]
        made = [
            delta_item(self.inventory, self.placement, self.precision, self.options.era),
            self._kv([own for own, _ in held], tokens, sequences, demand),
            self._state([own for _, own in held], sequences),
            self._activations(),
            self._graphs(),
            self._runtime(),
            *self.beside.fresh(),
        ]
        if self.row_outside:
            rest = [tokens * 0] * (self.placement.pp - 1)
            made.append(
                Item("draft_kv_cache", [*rest, asked[-1][0] * self.row_outside], phases=SERVING,
                     grade="derived", formula="sglang pools", source=SOURCE,
                     inputs={"bytes_per_token": self.row_outside}, note="as many slots, beside the share")
            )  # fmt: skip
        return made

    def asked(
        self, pool: Pool, tokens: Quantity, sequences: Quantity, demand: Demand | None
    ) -> tuple[Quantity, Quantity]:  # fmt: skip
        """Tokens and state slots that requests ask of a pool, at the 95th percentile. [tokens], [-]"""
        chunk = self.plan.chunk
        if demand is None:
            return pool.tokens_for(tokens, sequences, chunk), self.slots_for(pool, sequences)
        one = self.priced(pool, demand)
        many = (
            one.tokens(int(sequences)) if not is_array(sequences) else one.needs(sequences, lambda n: n).p95
        )
        return many, pool.slots(0) if pool.is_fixed else one.slots(sequences)

    def priced(self, pool: Pool, demand: Demand) -> Asked:
        """The requests of a demand in a pool; those of the last demand are kept, for a search asks again."""
        last = self._last.get(id(pool))
        if last is None or last.demand is not demand:
            last = self._last[id(pool)] = Asked(pool, demand, self.plan.chunk)
        return last

    def needs(self, demand: Demand, sequences: Quantity) -> list[Needs]:
        """Bytes that requests need of each rank class, drafts in the rest included. [B]"""
        found = []
        for place, pool in enumerate(self.pools):
            one = self.priced(pool, demand)
            slots = pool.slots(0) if pool.is_fixed else one.slots(sequences)
            row = self.row_outside if place == len(self.pools) - 1 else 0

            def price(
                tokens: Quantity, pool: Pool = pool, slots: Quantity = slots, row: int = row
            ) -> Quantity:
                caches, states = pool.cost(tokens, slots)
                return caches + states + row * tokens

            found.append(one.needs(sequences, price))
        return found

    @property
    def spread(self) -> tuple[int, int]:
        """Low and high of the caches, in percent. [%]"""
        return PACKED_SPREAD if is_packed(self.inventory) else (100, 100)

    def slots_for(self, pool: Pool, sequences: Quantity) -> Quantity:
        """State slots that so many requests need. [-]"""
        return pool.slots(0) if pool.is_fixed else sequences * pool.slots_each

    def short(self, tokens: int, sequences: int, demand: Demand | None, budgets: list[int]) -> int:
        """By how much pools of these budgets, or of sizes set by hand, are too small for sequences. [B]

        A budget a little larger may make one more state slot, and so hold fewer tokens than a smaller one.
        """
        most = 0
        for pool, budget in zip(self.pools, budgets, strict=True):
            needed, slots = self.asked(pool, tokens, sequences, demand)
            caches, states = pool.cost(needed, slots)
            missing = 0
            if self.options.tokens is not None:
                held = self.options.tokens // pool.page * pool.page
                missing += max(int(pool.cache_bytes(needed)) - int(pool.cache_bytes(held)), 0)
            if pool.state and pool.is_fixed:
                outputs = 1 if demand is None else demand.outputs
                missing += max(sequences * outputs * pool.slots_each - pool.slots(0), 0) * pool.state
            if not missing and caches + states <= budget and pool.cell[0]:
                held = pool.tokens(budget)
                missing = max(int(pool.cache_bytes(needed)) - int(pool.cache_bytes(held)), 0)
            most = max(most, missing)
        return most

    def _kv(
        self, amounts: list[Quantity], tokens: Quantity, sequences: Quantity, demand: Demand | None
    ) -> Item:  # fmt: skip
        worst = max(self.pools, key=lambda pool: pool.cell[0] * pool.cell[1])
        above, below = worst.cell
        note = "no attention to remember"
        if above:
            note = f"{above / below:,.0f} B a token, pages of {worst.page}"
        if worst.window and worst.full:
            share = worst.ratio[0] / worst.ratio[1]
            note = f"{worst.full:,} B a token, {share:g} x {worst.window:,} B for windows"
        low, high = self.spread
        return Item(
            "kv_cache", amounts, phases=SERVING, grade="derived" if low == high else "assumed",
            low=[n * low // 100 for n in amounts], high=[ceil_div(n * high, 100) for n in amounts],
            formula="sglang pools", source=SOURCE,
            inputs={"tokens": tokens, "sequences": sequences, "bytes_per_token": ceil_div(above, below),
                    "page_size": worst.page, **({} if demand is None else demand.to_dict())},
            note=note,
        )  # fmt: skip

    def _state(self, held: list[Quantity], sequences: Quantity) -> Item:
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
        counted = [item for item in items if item.name in ("weights", *self.beside_names(True))]
        uneven = usable * UNEVEN // 1000 if end == "high" and self.placement.tp > 1 else 0
        return [
            self.static(usable) - sum(int(getattr(item, end)[stage]) for item in counted) - uneven
            for stage in range(self.placement.pp)
        ]

    def beside_names(self, inside: bool) -> tuple[str, ...]:
        """What lies beside the model inside or outside the share: adapters always inside it."""
        draft = ("draft_weights", "draft_kv_cache")
        if self.options.era.counts_draft:
            return (*draft, "lora") if inside else ()
        return ("lora",) if inside else draft

    def outside(self, items: list[Item], stage: int, end: str = "amounts") -> int:
        """What lies outside that share: activations, graphs, what is gone before. [B]"""
        names = ("activations", "cuda_graphs", "runtime", *self.beside_names(False))
        return sum(int(getattr(item, end)[stage]) for item in items if item.name in names)
