"""vLLM's pool: pages of one size that all layers draw from, and how many a request takes.

Layers that remember alike form a *spec*; specs are made to share one page size, split into groups of
equally many layers, and a block of the pool is one page for each layer of a group. Read off
v1/core/kv_cache_planning.py and v1/kv_cache_interface.py of vLLM 0.33.0, in our own words.
"""

from __future__ import annotations

from typing import Any

from llmcalc.engine_options.vllm_era import Era
from llmcalc.formula import Quantity, ceil_div, smaller
from llmcalc.memory.caches import STATE_BYTES
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Cache, Group, Inventory
from llmcalc.placement import Placement, rank_width
from llmcalc.precision import Format

BLOCK = 16
"""Tokens of a block where nobody sets them. [tokens]"""

SPARSE_BLOCK = 64
"""Tokens of a block of sparse latent attention: its kernel's. [tokens]"""

SPARSE_ROW = {"fp8": 656, "nvfp4": 352}
"""A row of sparse latent attention: 512 B of fp8, 16 B of scales, 128 B of rotary key in 16 bit. [B]"""

INDEX_SCALE = 4
"""An indexer's key is kept in fp8, with one fp32 scale for a token. [B]"""

SIMILAR = (3, 2)
"""Buckets up to one and a half times the smallest form one group each, padded."""

FP32_STATES = ("kimi_k3", "kimi_linear", "minimax")
"""Families whose recurrent states vLLM keeps in fp32 whatever the configuration says."""


class Spec:
    """Layers that remember alike.

    Attributes
    ----------
    kind : str
        ``full``, ``window``, ``chunk``, ``latent``, ``indexer``, ``cross`` or ``state``.
    row : int
        Bytes of one token in one layer; of a whole state for ``state``. [B]
    limit : int
        Positions of a window or chunk, tokens of another stream for ``cross``; else 0. [tokens]
    layers : int
        How many of them a rank holds. [-]
    block : int
        Tokens of one page, set when pages are unified. [tokens]
    """

    __slots__ = ("block", "kind", "layers", "limit", "row")

    def __init__(self, kind: str, row: int, limit: int, layers: int) -> None:
        self.kind, self.row, self.limit, self.layers = kind, row, limit, layers
        self.block = 0


class Settings:
    """What shapes a pool besides the model.

    Attributes
    ----------
    era : Era
    block : int or None
        Tokens of a block, where the user sets them. [tokens]
    in_flight : int
        Tokens that are scheduled and not yet settled. [tokens]
    hybrid : bool
        Whether windows give back what lies behind them.
    drafts : int
        Tokens drafted ahead. [tokens]
    prefix : bool
        Whether states are kept for prefix caching ("align" mode).
    dcp : int
        Ranks that share the tokens of a cache (decode-context parallel). [-]
    streams : dict
        Tokens of streams other than the decoder's. [tokens]
    follows : bool
        Whether an encoder reads as much as the decoder: where nobody says how much.
    predicts : bool
        Whether the model's own prediction layers draft.
    sparse : bool
        Whether latents are kept in the rows of sparse attention.
    """

    __slots__ = (
        "block",
        "dcp",
        "drafts",
        "era",
        "follows",
        "hybrid",
        "in_flight",
        "predicts",
        "prefix",
        "sparse",
        "streams",
    )

    def __init__(self, era: Era, in_flight: int) -> None:
        self.era, self.in_flight = era, in_flight
        self.block: int | None = None
        self.hybrid = era.is_hybrid
        self.drafts = 0
        self.prefix = False
        self.dcp = 1
        self.streams: dict[str, Any] = {}
        self.follows = False
        self.predicts = True
        self.sparse = False


class Pool:
    """The pages of one rank class.

    Attributes
    ----------
    groups : list of (Spec, int)
        Specs and how many groups their layers fill.
    width : int
        Layers of a group. [-]
    block_bytes : int
        Bytes of one block of the pool. [B]
    block : int
        Tokens that the scheduler counts for a block. [tokens]
    padding : int
        Layers that only fill groups up. [-]
    """

    __slots__ = ("block", "block_bytes", "groups", "padding", "settings", "width")

    def __init__(self, specs: list[Spec], settings: Settings) -> None:
        self.settings = settings
        self.groups: list[tuple[Spec, int]] = []
        self.width = self.block_bytes = self.padding = 0
        self.block = settings.block or BLOCK
        if not specs:
            return
        if any(spec.kind == "indexer" for spec in specs):
            self.block = max(self.block, SPARSE_BLOCK)
        if len({spec.limit for spec in specs}) == 1 and not any(s.kind in ("state", "cross") for s in specs):
            self._alike(specs)
        else:
            self._unified(specs)

    def _alike(self, specs: list[Spec]) -> None:
        """One group of layers that need equally many tokens, whatever the width of their rows."""
        for spec in specs:
            spec.block = self.block
        self.groups = [(specs[0], 1)]
        self.width = sum(spec.layers for spec in specs)
        self.block_bytes = self.block * sum(spec.row * spec.layers for spec in specs)

    def _unified(self, specs: list[Spec]) -> None:
        """Pages of one size, layers in groups of one width."""
        attention = [spec for spec in specs if spec.kind != "state"]
        states = [spec for spec in specs if spec.kind == "state"]
        if attention and states:
            step = BLOCK * max(spec.row for spec in attention)
            self.block = max(self.block, BLOCK * -(-max(spec.row for spec in states) // step))
        rows = [spec.row * self.block for spec in attention]
        page = max(rows + [spec.row for spec in states])
        for spec in specs:
            own = spec.row * self.block
            fits = spec.kind != "state" and page % own == 0
            spec.block = self.block * (page // own) if fits else self.block
        counts = [spec.layers for spec in specs]
        least, most = min(counts), max(counts)
        self.width = most if SIMILAR[1] * most < SIMILAR[0] * least else least
        self.groups = [(spec, -(-spec.layers // self.width)) for spec in specs]
        self.padding = sum(many * self.width - spec.layers for spec, many in self.groups)
        self.block_bytes = self.width * page

    def blocks_of(self, tokens: Quantity, found: Quantity = 0) -> Quantity:
        """Blocks that one request of a length takes at most, beside full ones that it finds. [-]"""
        total: Quantity = 0
        for spec, many in self.groups:
            grows = spec.kind not in ("state", "cross")
            total = total + many * self._pages(spec, tokens - found if grows else tokens)
        return total

    def _pages(self, spec: Spec, tokens: Quantity) -> Quantity:
        made = self.settings
        reach = spec.block * made.dcp
        if spec.kind == "state":
            return 1 + made.drafts + (1 if made.prefix else 0)
        if spec.kind == "cross":
            return ceil_div(tokens if made.follows else spec.limit, spec.block)
        if spec.kind == "window":
            return ceil_div(smaller(tokens, spec.limit - 1 + made.in_flight), reach) + 1
        if spec.kind == "chunk":
            return ceil_div(smaller(tokens, spec.limit + made.in_flight), reach)
        return ceil_div(tokens, reach)

    def need(self, tokens: Quantity) -> Quantity:
        """Bytes of the pool that one request of a length takes at most. [B]"""
        return self.block_bytes * self.blocks_of(tokens)

    @property
    def grows(self) -> bool:
        """Whether a longer request takes more blocks."""
        return any(spec.kind not in ("state", "cross") for spec, _ in self.groups)

    @property
    def state_blocks(self) -> int:
        """Blocks of a request that hold states. [-]"""
        return sum(many * int(self._pages(s, 1)) for s, many in self.groups if s.kind == "state")

    def blocks(self, budget: int) -> int:
        """Blocks that a budget makes. [-]"""
        return max(budget, 0) // self.block_bytes if self.block_bytes else 0

    def tokens(self, blocks: int, length: int) -> int:
        """Return "GPU KV cache size" as the release counts it, for blocks and a model length. [tokens]"""
        if not self.groups:
            return 0
        if self.settings.era.counts_requests:
            return blocks * length // int(self.blocks_of(length))
        many = sum(count for _, count in self.groups)
        return blocks // many * self.block * self.settings.dcp

    def bytes_per_token(self, length: Quantity) -> Quantity:
        """Bytes of the pool behind one token of that size. [B]"""
        if not self.groups:
            return 0
        if self.settings.era.counts_requests and len(self.groups) > 1:
            return self.need(length) // length
        many = sum(count for _, count in self.groups)
        return self.block_bytes * many // (self.block * self.settings.dcp)


def pools(
    inventory: Inventory, placement: Placement, precision: Precision, settings: Settings,
    draft: Inventory | None = None,
) -> list[Pool]:  # fmt: skip
    """The pool of each pipeline stage.

    Parameters
    ----------
    inventory : Inventory
        The model; its layers say what is remembered.
    placement : Placement
        Tensor ranks and stages.
    precision : Precision
        Formats of keys, values and of states in the model's dtype.
    settings : Settings
        The release and what the user set.
    draft : Inventory, optional
        A draft, whose layers draw from the same pool on the last stage.

    Returns
    -------
    list of Pool
        One a stage.

    Examples
    --------
    gpt-oss-20b at 131,072 tokens, 4,096 of them in flight: 3.097 GiB, as vLLM says itself:

    >>> import llmcalc
    >>> from llmcalc.engine_options.vllm_era import era_of
    >>> from llmcalc.precision import Format
    >>> bf16 = Format("bf16", 1, 2)
    >>> model = llmcalc.model("gpt-oss-20b")
    >>> kept = Precision(16, "bf16", "exact", bf16, bf16, bf16)
    >>> pool, = pools(model, Placement(1, 1, 1, 24), kept, Settings(era_of(None), 4096))
    >>> round(pool.need(131_072) / 2**30, 3)
    3.097

    References
    ----------
    vLLM 0.33.0, v1/core/kv_cache_planning.py, v1/kv_cache_interface.py.
    """
    made = []
    for stage in range(placement.pp):
        found: dict[tuple[str, int, int], Spec] = {}
        last = stage == placement.pp - 1
        held = [(inventory, group, placement.count(group, stage)) for group in inventory.groups]
        if draft is not None and last:
            held += [(draft, group, len(group.layers)) for group in draft.groups]
        for model, group, count in held:
            rows = _kept(group, placement.tp, precision, settings, model) if count else ()
            for kind, row, limit in rows:
                key = (kind, row, limit)
                if key not in found:
                    found[key] = Spec(kind, row, limit, 0)
                found[key].layers += count
        if settings.drafts and settings.predicts and last:
            _draft(found, inventory)
        made.append(Pool(list(found.values()), settings))
    return made


def _draft(found: dict[tuple[str, int, int], Spec], inventory: Inventory) -> None:
    """The caches of the prediction layers, which attend like the model's own full layers."""
    own = len({layer for group in inventory.groups if group.component == "mtp" for layer in group.layers})
    for spec in found.values():
        if own and spec.kind in ("full", "latent", "indexer"):
            spec.layers += own


def _kept(
    group: Group, tp: int, precision: Precision, settings: Settings, inventory: Inventory
) -> list[tuple[str, int, int]]:
    """What one layer of a group keeps: kind, bytes of a row (or of the state), limit."""
    rows: list[tuple[str, int, int]] = []
    state = 0
    for cache in group.caches:
        if cache.is_state:
            state += _state(cache, tp, precision, settings.drafts, inventory)
            continue
        row = _row(cache, tp, precision, settings.sparse)
        kind, limit = cache.kind, cache.positions or 0
        encoded = cache.stream == "encoder"
        if encoded and not settings.era.encodes:
            continue  # the engine before V1 counted the decoder's own layers alone
        if encoded or (cache.stream != "decoder" and settings.era.is_v1):
            kind, limit = "cross", int(settings.streams.get(cache.stream) or 0)
        elif (
            not settings.hybrid
            or kind not in ("window", "chunk")
            or (kind == "chunk" and not settings.era.gives_back_chunks)
        ):
            kind, limit = ("full" if kind in ("window", "chunk", "cross") else kind), 0
        rows.append((kind, row, limit))
    return [*rows, ("state", state, 0)] if state else rows


def _state(cache: Cache, tp: int, precision: Precision, drafts: int, inventory: Inventory) -> int:
    """Bytes of one state: in the model's dtype unless the configuration names another."""
    width = sum(rank_width(cache, part, tp) for part in range(len(cache.parts)))
    own = int(precision.model.bytes_per_element)
    if cache.kind == "conv":
        return width * ((cache.positions or 0) + drafts) * own
    stated = inventory.state_dtype or ("fp32" if inventory.family in FP32_STATES else "")
    return width * (STATE_BYTES[stated] if stated else own)


def _row(cache: Cache, tp: int, precision: Precision, sparse: bool) -> int:
    """Bytes of one token of one layer on one tensor rank; a rank keeps at least one whole head."""
    widths = [rank_width(cache, part, tp) for part in range(len(cache.parts))]
    if cache.kind == "indexer":
        return sum(widths) + INDEX_SCALE
    if cache.kind == "latent" and sparse:
        return SPARSE_ROW["nvfp4" if precision.key.name == "nvfp4" else "fp8"]
    total = 0
    for part, width in enumerate(widths):
        kept: Format = precision.value if cache.parts[part][0] == "v" else precision.key
        heads = -(-dict(cache.parts[part][1][0]).get("kv_heads", 1) // tp)
        total += -(-width * kept.block_bytes // kept.elements) + heads * kept.head_bytes
    return total
