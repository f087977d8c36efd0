"""PyTorch's caching allocator: what it reserves of a GPU for the tensors that come and go."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable

from llmcalc.units import MIB

ROUND = 512
"""Blocks are multiples of this. [B]"""

SMALL = MIB
"""Up to here blocks come from segments of their own kind. [B]"""

MEDIUM, SEGMENT = 10 * MIB, 20 * MIB
"""Blocks smaller than the first come from segments of the second size. [B]"""

STEP = 2 * MIB
"""Segments are multiples of this, and as large where blocks are small. [B]"""


class _Block:
    __slots__ = ("after", "before", "free", "place", "size", "small")

    def __init__(self, place: int, size: int, small: bool) -> None:
        self.place, self.size, self.small = place, size, small
        self.before: _Block | None = None
        self.after: _Block | None = None
        self.free = True


class Card:
    """A device, whose memory several pools share.

    Parameters
    ----------
    room : int or None
        What it has for them; None is as much as they want. [B]

    Attributes
    ----------
    reserved, most : int
        Taken by all pools, now and at most. [B]
    """

    __slots__ = ("most", "pools", "reserved", "room")

    def __init__(self, room: int | None = None) -> None:
        self.room, self.reserved, self.most = room, 0, 0
        self.pools: list[Pool] = []

    def take(self, bytes_: int) -> None:
        """Reserve a segment; if there is no room, segments that are free go back first."""
        if self.room is not None and self.reserved + bytes_ > self.room:
            for pool in self.pools:
                pool.release()
        self.reserved += bytes_
        self.most = max(self.most, self.reserved)


class Pool:
    """Memory that the tensors of one stream come from.

    Parameters
    ----------
    card : Card, optional
        The device, one of its own by default.

    Attributes
    ----------
    reserved, allocated : int
        Segments taken of the device, and blocks that are in use. [B]
    most : int
        The most that was allocated. [B]

    Notes
    -----
    Follows `c10/cuda/CUDACachingAllocator.cpp` of PyTorch 2.x at its defaults: the smallest free block that
    is large enough is taken and split, neighbours that are free become one. Segments that are wholly free go
    back to the device when it has no room for a new one.
    What remains after a split is a block if it is at least 512 bytes of a small one, more than 1 MiB of a
    large one.

    Examples
    --------
    A tensor that is larger than any gap takes memory anew; the gap stays reserved:

    >>> pool = Pool()
    >>> pool.take("one", 30 * MIB), pool.give("one"), pool.take("two", 40 * MIB)
    (None, None, None)
    >>> pool.reserved // MIB, pool.allocated // MIB
    (70, 40)
    """

    __slots__ = ("_free", "_next", "_used", "allocated", "card", "most", "reserved")

    def __init__(self, card: Card | None = None) -> None:
        self.card = card if card is not None else Card()
        self.card.pools.append(self)
        self.reserved = self.allocated = self.most = self._next = 0
        self._free: dict[bool, list[tuple[int, int, _Block]]] = {True: [], False: []}
        self._used: dict[Hashable, _Block] = {}

    def take(self, key: Hashable, bytes_: int) -> None:
        """Allocate a tensor under a key."""
        if bytes_ <= 0:
            return
        size = -(-bytes_ // ROUND) * ROUND
        small = size <= SMALL
        free = self._free[small]
        place = bisect_left(free, (size, -1))
        if place < len(free):
            block = free.pop(place)[2]
        else:
            block = self._segment(size, small)
            free = self._free[small]
        rest = block.size - size
        if rest >= ROUND if small else rest > SMALL:
            other = _Block(block.place + size, rest, small)
            other.before, other.after = block, block.after
            if block.after is not None:
                block.after.before = other
            block.after, block.size = other, size
            insort(free, (rest, other.place, other))
        block.free = False
        self._used[key] = block
        self.allocated += block.size
        self.most = max(self.most, self.allocated)

    def _segment(self, size: int, small: bool) -> _Block:
        whole = STEP if small else SEGMENT if size < MEDIUM else -(-size // STEP) * STEP
        block = _Block(self._next, whole, small)
        self._next += whole + STEP
        self.card.take(whole)
        self.reserved += whole
        return block

    def release(self) -> None:
        """Give segments back of which nothing is in use."""
        for small, free in self._free.items():
            kept = [one for one in free if one[2].before is not None or one[2].after is not None]
            gone = sum(one[0] for one in free) - sum(one[0] for one in kept)
            self._free[small] = kept
            self.reserved -= gone
            self.card.reserved -= gone

    def give(self, key: Hashable) -> None:
        """Free what is allocated under a key, if anything is."""
        block = self._used.pop(key, None)
        if block is None:
            return
        self.allocated -= block.size
        block.free = True
        free = self._free[block.small]
        for other in (block.before, block.after):
            if other is None or not other.free:
                continue
            del free[bisect_left(free, (other.size, other.place))]
            first, second = (other, block) if other is block.before else (block, other)
            first.size += second.size
            first.after = second.after
            if second.after is not None:
                second.after.before = first
            block = first
        insort(free, (block.size, block.place, block))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._used

    def all(self) -> list[Hashable]:
        """Keys of what is allocated."""
        return list(self._used)
