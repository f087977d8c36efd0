"""PyTorch's caching allocator on paper: what it takes from the driver for what is asked of it."""

from __future__ import annotations

from bisect import bisect_left, insort

from llmcalc.units import MIB

ROUND = 512
"""Every size is a multiple of it. [B]"""

SMALL, SMALL_SEGMENT = MIB, 2 * MIB
"""Up to what a block is small, and the segment that small blocks are cut from. [B]"""

MIDDLE, MIDDLE_SEGMENT = 10 * MIB, 20 * MIB
"""Up to what a large block shares a segment, and that segment; larger ones have one of their own. [B]"""


class Block:
    """A stretch of a segment, in use or free."""

    __slots__ = ("after", "before", "free", "size", "small", "start")

    def __init__(self, start: int, size: int, small: bool) -> None:
        self.start, self.size, self.small, self.free = start, size, small, False
        self.before: Block | None = None
        self.after: Block | None = None

    def __lt__(self, other: Block) -> bool:
        return (self.size, self.start) < (other.size, other.start)


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
        self.pools: list[Allocator] = []

    def take(self, bytes_: int) -> None:
        """Reserve a segment; if there is no room, segments that are free go back first."""
        if self.room is not None and self.reserved + bytes_ > self.room:
            for pool in self.pools:
                pool.release()
        self.reserved += bytes_
        self.most = max(self.most, self.reserved)


class Allocator:
    """One stream's pool.

    Parameters
    ----------
    expandable : bool
        Whether segments grow (``expandable_segments:True``), so that what is free lies together.
    card : Card, optional
        The device, one of its own by default.

    Attributes
    ----------
    reserved, allocated, most : int
        Taken from the driver; in use; and the most in use so far. [B]

    Notes
    -----
    The smallest free block that is large enough is taken, and cut where more than 1 MiB is left. A segment is
    never given back unless all of it is free and the card has no room for another.

    Examples
    --------
    A block of 30 MiB is freed, and taken by one of 20: the next of 20 finds no room in what is left.

    >>> pool = Allocator()
    >>> pool.free(pool.take(30 << 20))
    >>> blocks = pool.take(20 << 20), pool.take(20 << 20)
    >>> pool.reserved >> 20
    50
    """

    def __init__(self, expandable: bool = False, card: Card | None = None) -> None:
        self.expandable = expandable
        self.card = card if card is not None else Card()
        self.card.pools.append(self)
        self.reserved = self.allocated = self.most = 0
        self._free: dict[bool, list[Block]] = {True: [], False: []}
        self._end: dict[bool, Block] = {}
        self._next = 0

    def take(self, size: int) -> Block:
        """A block for so many bytes."""
        size = max(ROUND, -(-size // ROUND) * ROUND)
        small = size <= SMALL
        free = self._free[small]
        place = bisect_left(free, Block(-1, size, small))
        block = free.pop(place) if place < len(free) else self._new(size, small)
        free = self._free[small]
        left = block.size - size
        if left >= ROUND if small or self.expandable else left > SMALL:
            rest = Block(block.start + size, left, small)
            rest.before, rest.after = block, block.after
            if block.after is not None:
                block.after.before = rest
            if self._end.get(small) is block:
                self._end[small] = rest
            block.after, block.size = rest, size
            rest.free = True
            insort(free, rest)
        block.free = False
        self.allocated += block.size
        self.most = max(self.most, self.allocated)
        return block

    def _new(self, size: int, small: bool) -> Block:
        """A segment, or as much more of the one that grows as is lacking."""
        if small:
            taken = SMALL_SEGMENT
        elif self.expandable or size < MIDDLE:
            taken = -(-size // MIDDLE_SEGMENT) * MIDDLE_SEGMENT
        else:
            taken = -(-size // SMALL_SEGMENT) * SMALL_SEGMENT
        end = self._end.get(small) if self.expandable else None
        if end is not None and end.free:
            free = self._free[small]
            free.pop(bisect_left(free, end))
            unit = SMALL_SEGMENT if small else MIDDLE_SEGMENT
            more = -(-(size - end.size) // unit) * unit
            self.card.take(more)
            self.reserved += more
            end.size += more
            self._next += more
            return end
        self.card.take(taken)
        self.reserved += taken
        block = Block(self._next, taken, small)
        self._next += taken
        if self.expandable:
            if end is not None:
                end.after, block.before = block, end
            self._end[small] = block
        return block

    def release(self) -> None:
        """Give segments back of which nothing is in use; those that grow have none to give here."""
        for small, free in () if self.expandable else self._free.items():
            kept = [block for block in free if block.before is not None or block.after is not None]
            gone = sum(block.size for block in free) - sum(block.size for block in kept)
            self._free[small] = kept
            self.reserved -= gone
            self.card.reserved -= gone

    def free(self, block: Block) -> None:
        """Give a block back; free neighbours of one segment become one."""
        self.allocated -= block.size
        block.free = True
        free = self._free[block.small]
        before, after = block.before, block.after
        if before is not None and before.free:
            free.pop(bisect_left(free, before))
            before.size += block.size
            before.after = after
            if after is not None:
                after.before = before
            if self._end.get(block.small) is block:
                self._end[block.small] = before
            block = before
        if after is not None and after.free:
            free.pop(bisect_left(free, after))
            block.size += after.size
            block.after = after.after
            if after.after is not None:
                after.after.before = block
            if self._end.get(block.small) is after:
                self._end[block.small] = block
        insort(free, block)


class Pool:
    """A pool whose blocks have names.

    Examples
    --------
    >>> pool = Pool()
    >>> pool.take("weights", 12 << 20)
    >>> pool.drop("weights")
    >>> pool.reserved >> 20
    12
    """

    def __init__(self, expandable: bool = False, card: Card | None = None) -> None:
        self.allocator = Allocator(expandable, card)
        self.named: dict[object, Block] = {}

    def another(self) -> Pool:
        """A pool of another stream on the same card."""
        return Pool(self.allocator.expandable, self.allocator.card)

    @property
    def reserved(self) -> int:
        """Taken from the driver. [B]"""
        return self.allocator.reserved

    def take(self, name: object, size: int) -> None:
        """A block under a name; nothing for no bytes."""
        if size > 0:
            self.named[name] = self.allocator.take(int(size))

    def drop(self, name: object) -> None:
        """Give it back, if there is one."""
        block = self.named.pop(name, None)
        if block is not None:
            self.allocator.free(block)

    def rename(self, name: object, to: object) -> None:
        """The same block under another name."""
        if name in self.named:
            self.named[to] = self.named.pop(name)
