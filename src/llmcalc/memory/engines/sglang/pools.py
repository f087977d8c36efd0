"""SGLang's pools: slots of one token each, a second pool for windows, and slots for recurrent states.

Read off srt/model_executor/pool_configurator.py and srt/mem_cache/kv_cache_configurator.py of SGLang
0.5.23, and off what stood in model_runner.py before, in our own words.
"""

from __future__ import annotations

from typing import Any

from llmcalc.engine_options.sglang import SglangOptions
from llmcalc.errors import InputError
from llmcalc.formula import Quantity, ceil_div, is_array, larger, smaller, where
from llmcalc.memory.caches import STATE_BYTES
from llmcalc.memory.engines.vllm.packed import is_packed
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Cache, Group, Inventory, size
from llmcalc.placement import Placement, rank_width

PAGE, SPARSE_PAGE = 1, 64
"""Tokens of a page by default; of sparse latent attention, by its kernel. [tokens]"""

SPARSE_ROW = 656
"""An fp8 row of sparse latent attention: 512 B, 16 B of scales, 128 B of rotary key in 16 bit. [B]"""

INDEX_SCALE = 4
"""An indexer's key is kept in fp8, with one fp32 scale for 128 elements. [B]"""

PACKED_ROW, PACKED_PAGE, PACKED_RATIO, RING_PAGE = 584, 256, (1, 10), 128
"""With compressed entries: an entry in fp8, tokens of a page, tokens of the window pool for each of the full
one, and window tokens that share a ring of tokens that wait for their entry. [B], [tokens], [-], [tokens]"""

WINDOW_RATIO, STATE_RATIO = (8, 10), (9, 10)
"""Tokens of the window pool for each of the full one; state memory for each byte of the KV cache."""

SLOTS_PLAIN, SLOTS_BUFFERED = 3, 5
"""State slots that a request may hold with prefix caching: without and with the extra buffer. [-]"""

SLOTS_OLD = 512
"""State slots until 0.5.3, where nobody limits requests. [-]"""

EVICTION = 128
"""Tokens after which a window gives back what lies behind it. [tokens]"""

REQUESTS_DRAFTED = 48
"""Running requests with speculation, where nobody limits them. [-]"""

UNBUFFERED = ("lfm2", "lfm2_moe", "lfm2_vl", "lfm3", "jamba", "mamba", "mamba2", "falcon_mamba", "zamba2")
"""Families whose prefix cache takes no extra buffer."""


class Pool:
    """The pools of one rank class.

    Attributes
    ----------
    full, window : int
        Bytes of one token in all layers that keep it for good, and in those with a window. [B]
    limit : int
        Positions of the window; 0 without one. [tokens]
    state, draft_state : int
        Bytes of one state slot over all layers, and of one that a draft token adds. [B]
    page : int
        Tokens of a page. [tokens]
    ratio, state_ratio : tuple of int
        Tokens of the window pool for each of the full one; state memory for each byte of the KV cache.
    """

    __slots__ = ("full", "limit", "options", "page", "ratio", "slots_each", "state", "state_ratio", "window")

    def __init__(self, options: SglangOptions, page: int, slots_each: int) -> None:
        self.options, self.page, self.slots_each = options, page, slots_each
        self.full = self.window = self.limit = self.state = 0
        self.ratio = options.window_ratio or WINDOW_RATIO
        self.state_ratio = options.state_ratio or STATE_RATIO

    @property
    def cell(self) -> tuple[int, int]:
        """Bytes behind one token of ``max_total_num_tokens``, as numerator and denominator. [B]"""
        if not self.full:  # windows alone have the pool for themselves
            return self.window, 1
        return self.full * self.ratio[1] + self.window * self.ratio[0], self.ratio[1]

    def aligned(self, tokens: Quantity) -> Quantity:
        """Tokens rounded up to pages. [tokens]"""
        return ceil_div(tokens, self.page) * self.page

    @property
    def window_each(self) -> int:
        """Slots of the window pool that a sequence may hold beside chunks in flight. [tokens]"""
        return self.limit + EVICTION * max(self.options.drafts, 1) + 2 * self.page

    def both(self, full: Quantity, held: Quantity, chunk: int) -> Quantity:
        """The ``max_total_num_tokens`` for so many slots of one pool and of windows. [tokens]

        Windows hold what is in them, what is not yet given back, and two chunks in flight.

        Examples
        --------
        >>> from llmcalc.engine_options.sglang import SglangOptions
        >>> pool = Pool(SglangOptions(), 1, 1)
        >>> pool.limit = 128
        >>> pool.both(2 * 131_072, 2 * pool.window_each, 2048)
        4613
        """
        held = smaller(full, held + 2 * chunk + self.page)
        if not self.full:
            return held
        return larger(full, self.aligned(ceil_div(held * self.ratio[1], self.ratio[0])))

    def tokens_for(self, tokens: Quantity, sequences: Quantity, chunk: int) -> Quantity:
        """The ``max_total_num_tokens`` that holds sequences of a length: both pools must. [tokens]"""
        need = sequences * self.aligned(tokens)
        if not self.window:
            return need
        return self.both(need, sequences * smaller(self.aligned(tokens), self.window_each), chunk)

    def cache_bytes(self, tokens: Quantity) -> Quantity:
        """Bytes of a pool of so many tokens. [B]"""
        above, below = self.cell
        return ceil_div(tokens * above, below)

    @property
    def is_fixed(self) -> bool:
        """Whether the number of state slots is set, by the user or by the release, not shared by ratio."""
        options = self.options
        by_requests = not options.prefix and options.requests is not None
        return options.slots is not None or by_requests or not options.era.shares_by_ratio

    @property
    def fixed_slots(self) -> int:
        """That number. [-]"""
        options = self.options
        return options.slots or options.requests or SLOTS_OLD

    def slots(self, budget: int) -> int:
        """State slots that a budget makes (``max_mamba_cache_size``). [-]"""
        if not self.state:
            return 0
        if self.is_fixed:
            return max(self.fixed_slots // self.replicas, 1)
        above, below = self.state_ratio
        share, drafts, each = max(budget, 0) * above // (above + below), self.options.drafts, self.slots_each
        if not drafts:
            return max(share // self.state - self.padding, 0)
        share -= self.padding * self.state * (1 + drafts)
        return max(share * each // (self.state * (each + drafts)), 0)

    @property
    def replicas(self) -> int:
        """Replicas that share the slots as asked. [-]"""
        return self.options.replicas if self.options.shares_batch else 1

    @property
    def padding(self) -> int:
        """Slots that only pad. [-]"""
        return int(self.options.era.pads_states)

    def drafted(self, slots: Quantity) -> Quantity:
        """States of draft tokens that lie beside the slots. [-]"""
        if not self.options.drafts or not self.state:
            return 0
        requests = max((self.options.requests or REQUESTS_DRAFTED) // self.replicas, 1)
        return (smaller(requests, slots // self.slots_each) + self.padding) * self.options.drafts

    def least(self, slots: Quantity) -> Quantity:
        """The smallest budget that makes so many slots, where states have a share of it. [B]"""
        drafts, each = self.options.drafts, self.slots_each
        above, below = self.state_ratio
        share = ceil_div(slots * self.state * (each + drafts), each)
        share = share + self.padding * self.state * (1 + drafts)
        return ceil_div(share * (above + below), above)

    def shared(self, caches: Quantity, slots: Quantity) -> tuple[Quantity, Quantity]:
        """What a budget gives to keys and values and to states so that both have what they must. [B]

        Parameters
        ----------
        caches : int or ndarray
            Bytes of keys and values. [B]
        slots : int or ndarray
            State slots, at least. [-]
        """

        def holds(many: Quantity) -> Any:
            # The largest budget that makes no more slots leaves room enough.
            return self.least(many + 1) - self.state_bytes(many) > caches

        above, below = self.state_ratio
        low, high = slots + caches * 0, slots + caches * above // (below * self.state) + 2 * self.slots_each
        for _ in range(int(high.max() if is_array(high) else high).bit_length() + 1):
            middle = (low + high) // 2
            good = holds(middle)
            low, high = where(good, low, smaller(middle + 1, high)), where(good, middle, high)
        for back in range(1, self.slots_each + 1):  # a slot of one more request costs drafts as well
            before = larger(high - back, slots)
            low = where(holds(before), before, low)
        states = self.state_bytes(low)
        return larger(caches, self.least(low) - states), states

    def cost(self, tokens: Quantity, slots: Quantity) -> tuple[Quantity, Quantity]:
        """Bytes of the smallest pools that hold so many tokens and state slots: caches, states. [B]

        Where states have a fixed share of the memory, both pools grow until both hold what they must.
        """
        caches = self.cache_bytes(tokens)
        if not self.state:
            return caches, 0
        if self.is_fixed:
            return caches, self.state_bytes(self.slots(0))
        if not self.cell[0]:  # the other share lies idle
            return 0, self.least(slots)
        return self.shared(caches, slots)

    def state_bytes(self, slots: Quantity) -> Quantity:
        """Bytes of the state pools for so many slots. [B]"""
        return (slots + self.padding + self.drafted(slots)) * self.state if self.state else 0

    def room(self, budget: int) -> int:
        """What a budget leaves for keys and values. [B]"""
        return budget - int(self.state_bytes(self.slots(budget)))

    def tokens(self, budget: int) -> int:
        """``max_total_num_tokens`` of a budget. [tokens]"""
        above, below = self.cell
        if not above:
            return 0
        found = max(self.room(budget), 0) * below // above
        if self.options.tokens is not None:
            found = min(found, self.options.tokens)
        return found // self.page * self.page


def pools(
    inventory: Inventory, placement: Placement, precision: Precision, options: SglangOptions, sparse: bool,
    draft: tuple[Inventory, Placement] | None = None,
) -> list[Pool]:  # fmt: skip
    """The pools of each pipeline stage.

    Parameters
    ----------
    inventory : Inventory
        The model; its layers say what is remembered.
    placement : Placement
        Tensor ranks and stages.
    precision : Precision
        Formats of keys, values and of states in the model's dtype.
    options : SglangOptions
        The release and what the user set.
    sparse : bool
        Whether latents are kept in the fp8 rows of sparse attention.
    draft : tuple of Inventory and Placement, optional
        A draft whose caches lie in the pool of the last stage.

    Returns
    -------
    list of Pool
        One a stage.

    Examples
    --------
    DeepSeek-V3.2 keeps 656 bytes of latent and 132 of indexer a layer and token:

    >>> import llmcalc
    >>> from llmcalc.precision import Format
    >>> fp8 = Format("fp8", 1, 1)
    >>> kept = Precision(16, "bf16", "exact", Format("bf16", 1, 2), fp8, fp8)
    >>> model = llmcalc.model("deepseek-v3.2")
    >>> pool, = pools(model, Placement(1, 1, 1, 61), kept, SglangOptions(), True)
    >>> pool.full == 61 * (656 + 132)
    True

    References
    ----------
    SGLang 0.5.23, srt/model_executor/pool_configurator.py; PR 11309: 43.67 GB of 975,424 tokens.
    """
    indexed = any(cache.kind == "indexer" for group in inventory.groups for cache in group.caches)
    packed = is_packed(inventory)
    page = options.page or (PACKED_PAGE if packed else SPARSE_PAGE if indexed else PAGE)
    splits = options.era.splits(inventory.family) and not options.whole_windows
    each = _slots_each(inventory, options)
    made = []
    for stage in range(placement.pp):
        pool = Pool(options, page, each)
        pool.ratio = options.window_ratio or (PACKED_RATIO if packed else WINDOW_RATIO)
        for group in inventory.groups:
            count = placement.count(group, stage)
            if count:
                _add(pool, group, count, placement.tp, precision, sparse, splits, inventory)
        if draft is not None and stage == placement.pp - 1:
            pool.full += draft_row(*draft, precision, sparse)
        elif options.drafts and options.era.counts_draft and draft is None:
            _add_draft(pool, inventory)
        made.append(pool)
    return made


def draft_row(draft: Inventory, placement: Placement, precision: Precision, sparse: bool) -> int:
    """Bytes of one token of a draft, which has a slot for each of the model's. [B]

    Raises
    ------
    InputError
        If it keeps states.
    """
    total = 0
    for group in draft.groups:
        for cache in group.caches:
            if cache.is_state or cache.stream == "encoder" or cache.kind in ("compressed", "tail"):
                raise InputError(
                    f"{draft.name} as a draft keeps more than keys and values; that is not modelled.",
                    "Name a draft with attention alone, or a head: --draft eagle3.",
                )
            total += max(len(group.layers), 1) * _row(cache, placement.tp, precision, sparse)
    return total


def _slots_each(inventory: Inventory, options: SglangOptions) -> int:
    """State slots that a running request may hold. [-]"""
    if not options.prefix or not options.era.shares_by_ratio:
        return 1
    buffered = options.era.buffers_states and inventory.family not in UNBUFFERED
    return SLOTS_BUFFERED if buffered else SLOTS_PLAIN


def _add(
    pool: Pool, group: Group, count: int, tp: int, precision: Precision, sparse: bool, splits: bool,
    inventory: Inventory,
) -> None:  # fmt: skip
    """Add the caches of `count` equal layers."""
    if is_packed(inventory):
        _add_packed(pool, group, count, precision, sparse)
        return
    for cache in group.caches:
        if cache.stream == "encoder":
            raise InputError(
                f"The pools of {inventory.name}'s encoder in SGLang are not modelled.",
                "Use --engine vllm, or none for the architecture's minimum.",
            )
        if cache.is_state:
            pool.state += count * _state(cache, tp, pool.options, inventory)
        elif splits and cache.kind in ("window", "chunk"):
            pool.window += count * _row(cache, tp, precision, sparse)
            pool.limit = max(pool.limit, cache.positions or 0)
        else:
            pool.full += count * _row(cache, tp, precision, sparse)


def _add_packed(pool: Pool, group: Group, count: int, precision: Precision, sparse: bool) -> None:
    """Add layers with compressed entries; tokens that wait for theirs lie in rings beside the windows."""
    rate = 1
    for cache in group.caches:
        width = sum(size(dimension) for _, dimension in cache.parts)
        row = PACKED_ROW if sparse else width * int(precision.key.bytes_per_element)
        if cache.kind == "window":
            pool.window += count * row
            pool.limit = max(pool.limit, cache.positions or 0)
        elif cache.kind == "tail":
            halves = 2 if (cache.positions or 0) >= rate else 1
            ring = halves * rate * (2 if pool.options.drafts else 1)
            pool.window += -(-count * ring * halves * width * STATE_BYTES["fp32"] // RING_PAGE)
        else:
            rate = cache.rate
            row = width + INDEX_SCALE if cache.kind == "indexer" else row
            pool.full += -(-count * row // rate)


def _add_draft(pool: Pool, inventory: Inventory) -> None:
    """The prediction layers' caches: as wide as the model's own layers on average."""
    if is_packed(inventory):  # they have a window alone
        pool.window += PACKED_ROW * sum(len(g.layers) for g in inventory.groups if g.component == "mtp")
        return
    own = {layer for group in inventory.groups if group.component == "mtp" for layer in group.layers}
    layers = sum(
        len(group.layers) for group in inventory.groups
        if any(not cache.is_state for cache in group.caches)
    )  # fmt: skip
    if layers:
        pool.full += pool.full * len(own) // layers


def _state(cache: Cache, tp: int, options: SglangOptions, inventory: Inventory) -> int:
    """Bytes of one layer's state: convolutions in bf16; the rest in fp32 unless something else is named."""
    width = sum(rank_width(cache, part, tp) for part in range(len(cache.parts)))
    if cache.kind == "conv":
        return width * (cache.positions or 0) * 2
    # Until 0.5.6 the configuration's own word was not read.
    stated = inventory.state_dtype if options.era.version >= (0, 5, 9) else ""
    return width * STATE_BYTES[options.state_dtype or stated or "fp32"]


def _row(cache: Cache, tp: int, precision: Precision, sparse: bool) -> int:
    """Bytes of one token of one layer on one tensor rank; a rank keeps at least one whole head."""
    widths = [rank_width(cache, part, tp) for part in range(len(cache.parts))]
    if cache.kind == "indexer":
        return sum(widths) + -(-sum(widths) // 128) * INDEX_SCALE
    if cache.kind == "latent" and sparse:
        return SPARSE_ROW
    kept: list[Any] = [precision.value if name == "v" else precision.key for name, _ in cache.parts]
    pairs = zip(widths, kept, strict=True)
    row = 0
    for width, form in pairs:
        row += -(-width * int(form.block_bytes) // int(form.elements))
    return row
