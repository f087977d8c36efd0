"""vLLM's pool for DeepSeek V4: pages of several sizes side by side in one block.

A block holds a page of each layer of a group, whatever its size; the widest group decides what a block
takes. Read off v1/core/kv_cache_utils.py and kv_cache_planning.py, models/deepseek_v4/compressor.py and
v1/attention/backends/mla/sparse_swa.py of vLLM, in our own words.
"""

from __future__ import annotations

from llmcalc.errors import InputError
from llmcalc.memory.engines.vllm.pages import Pool, Settings, Spec
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Group, Inventory, size
from llmcalc.placement import Placement

BLOCK, WINDOW_BLOCK = 256, 64
"""Tokens of a page of compressed entries, and of one of a window. [tokens]"""

ROW, INDEX_ROW = 584, 132
"""An entry in fp8: 448 B, 128 B of rotary key in 16 bit, 8 of scales; an indexer's key with its scale. [B]"""

STEP = 576
"""In fp8 pages are multiples of this. [B]"""

STATE_BLOCK = {True: 4, False: 8}
"""Tokens of a page of those that wait for their entry, with overlapping entries and without. [tokens]"""

STATE_ELEMENT = 4
"""They are kept in fp32. [B]"""

PACKED_FROM = (0, 28)
"""Until then a block had room for one page of each size in as many layers as the widest group has."""


def is_packed(inventory: Inventory) -> bool:
    """Whether a model keeps compressed entries, whose pages differ in size.

    Examples
    --------
    >>> import llmcalc
    >>> is_packed(llmcalc.model("deepseek-v4-flash")), is_packed(llmcalc.model("deepseek-v3.2"))
    (True, False)
    """
    return any(cache.kind == "compressed" for group in inventory.groups for cache in group.caches)


class Bucket:
    """Layers that give back what lies behind an equal reach, by the size of their pages.

    Attributes
    ----------
    block, limit : int
        Tokens of a page, and of the window; 0 for what is kept for good. [tokens]
    pages : dict of int to list of int
        For each size of a page how many layers have it, on each stage. [B], [-]
    """

    __slots__ = ("block", "limit", "pages")

    def __init__(self, block: int, limit: int) -> None:
        self.block, self.limit = block, limit
        self.pages: dict[int, list[int]] = {}

    def add(self, page: int, counts: list[int]) -> None:
        """Layers with pages of a size, on each stage."""
        held = self.pages.setdefault(page, [0] * len(counts))
        self.pages[page] = [one + more for one, more in zip(held, counts, strict=True)]

    @property
    def repeats(self) -> int:
        """Layers of the most common size of page. [-]"""
        return max(sum(counts) for counts in self.pages.values())

    @property
    def is_even(self) -> bool:
        """Whether there are equally many layers of each size."""
        return len({sum(counts) for counts in self.pages.values()}) == 1

    def wide(self, stage: int, groups: int) -> int:
        """Bytes of a block for the widest of so many groups of a stage. [B]"""
        return sum(page * -(-counts[stage] // groups) for page, counts in self.pages.items())

    def tall(self, stage: int, groups: int) -> int:
        """Layers of one size in that group. [-]"""
        return max(-(-counts[stage] // groups) for counts in self.pages.values())


class PackedPool(Pool):
    """The pages of one rank class, of several sizes in one block."""

    __slots__ = ()

    def __init__(self, buckets: list[Bucket], stage: int, settings: Settings) -> None:
        super().__init__([], settings)
        self.block = settings.block or BLOCK
        if not settings.hybrid:
            self._whole(buckets, stage)
            return
        parts = _parts(buckets, settings)
        for bucket, many in zip(buckets, parts, strict=True):
            spec = Spec("window" if bucket.limit else "full", 0, bucket.limit, bucket.repeats)
            spec.block = bucket.block
            if bucket.wide(stage, 1):
                self.groups.append((spec, many))
        self.width = max(b.tall(stage, many) for b, many in zip(buckets, parts, strict=True))
        if settings.era.version >= PACKED_FROM:
            self.block_bytes = max(b.wide(stage, many) for b, many in zip(buckets, parts, strict=True))
        else:
            self.block_bytes = self.width * sum(
                page for page, counts in buckets[0].pages.items() if counts[stage]
            )

    def _whole(self, buckets: list[Bucket], stage: int) -> None:
        """Without the hybrid manager nothing is given back: one group, all layers for all tokens."""
        spec = Spec("full", 0, 0, sum(bucket.repeats for bucket in buckets))
        spec.block = self.block
        self.groups, self.width = [(spec, 1)], spec.layers
        self.block_bytes = sum(bucket.wide(stage, 1) * self.block // bucket.block for bucket in buckets)


def _parts(buckets: list[Bucket], settings: Settings) -> list[int]:
    """Groups of each bucket, of about as many layers each. [-]"""
    if settings.era.version >= PACKED_FROM:
        least = max((b.repeats for b in buckets if b.is_even and len(b.pages) > 1), default=1)
        even = [bucket.repeats for bucket in buckets if bucket.is_even]
        depth = _depth(even, least)
        return [-(-b.repeats // depth) if b.is_even else 1 for b in buckets]
    depth = _depth([bucket.repeats for bucket in buckets], buckets[0].repeats)
    return [1, *(-(-bucket.repeats // depth) for bucket in buckets[1:])]


def _depth(repeats: list[int], least: int) -> int:
    """The depth of groups that pads least; of equals the largest. [-]

    Examples
    --------
    DeepSeek-V4-Flash: 43 layers with a window make two groups of 22.

    >>> _depth([21, 43, 21, 20], 21)
    22
    """
    depths = range(least, max(repeats) + 1)
    return min(depths, key=lambda depth: (sum(-many % depth for many in repeats), -depth), default=least)


def packed_pools(
    inventory: Inventory, placement: Placement, precision: Precision, settings: Settings,
    draft: Inventory | None = None,
) -> list[Pool]:  # fmt: skip
    """The pool of each pipeline stage of a model with compressed entries.

    Parameters
    ----------
    inventory, placement, precision, settings, draft
        As for `pools`.

    Returns
    -------
    list of Pool
        One a stage.

    Examples
    --------
    DeepSeek-V4-Flash, whose groups an issue lists: the widest takes 1,002,240 bytes of a block.

    >>> from llmcalc import vram
    >>> vram("deepseek-v4-flash", engine="vllm", engine_version="0.28")["kv_cache"].inputs["block_bytes"]
    1002240

    References
    ----------
    vLLM, issues 44376 and 54703; 0.27.1, v1/core/kv_cache_utils.py; 0.33.0, v1/core/kv_cache_planning.py.
    """
    if precision.key.name not in ("fp8", "bf16", "fp16"):
        raise InputError(
            f"vLLM keeps {inventory.name}'s compressed cache in fp8 or 16 bit, not in {precision.key.name}.",
            "Use --kv-dtype fp8.",
        )
    if draft is not None:
        raise InputError(
            f"Drafts of another model beside {inventory.name}'s compressed caches are not modelled.",
            "Use --draft mtp, its own prediction layer.",
        )
    buckets: dict[tuple[int, int], Bucket] = {}
    own = settings.drafts and settings.predicts
    for group in inventory.groups:
        counts = [placement.count(group, stage) for stage in range(placement.pp)]
        if group.component == "mtp":
            counts = [0] * (placement.pp - 1) + [len(group.layers) if own else 0]
        for block, limit, page in _pages(group, precision, settings) if any(counts) else ():
            buckets.setdefault((block, limit), Bucket(block, limit)).add(page, counts)
    # What is kept for good comes first, and decides how deep groups are.
    ordered = sorted(buckets.values(), key=lambda bucket: bucket.limit > 0)
    return [PackedPool(ordered, stage, settings) for stage in range(placement.pp)]


def _pages(group: Group, precision: Precision, settings: Settings) -> list[tuple[int, int, int]]:
    """Pages of one layer: tokens, window and bytes of each."""
    made, rate = [], 1
    block = settings.block or BLOCK
    for cache in group.caches:
        width = sum(size(dimension) for _, dimension in cache.parts)
        row = ROW if settings.sparse else width * int(precision.key.bytes_per_element)
        if cache.kind == "window":
            made.append((WINDOW_BLOCK, cache.positions or 0, _rounded(WINDOW_BLOCK * row, settings)))
        elif cache.kind == "tail":
            overlaps = (cache.positions or 0) >= rate
            tokens, halves = STATE_BLOCK[overlaps], 2 if overlaps else 1
            bytes_ = tokens * halves * width * STATE_ELEMENT
            made.append((tokens, halves * rate, _rounded(bytes_, settings)))
        elif cache.kind in ("compressed", "indexer"):
            rate = cache.rate
            entries = max(block // rate, 1)
            row = INDEX_ROW if cache.kind == "indexer" else row
            made.append((block, 0, _rounded(entries * row, settings, kept=True)))
    return made


def _rounded(page: int, settings: Settings, kept: bool = False) -> int:
    """A page in fp8 rounded up, but for what would be given back and is not. [B]"""
    return -(-page // STEP) * STEP if settings.sparse and (settings.hybrid or kept) else page
