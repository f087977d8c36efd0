"""Tensors that are alive: PyTorch frees one with its last name, so a peak is a matter of order."""

from __future__ import annotations


class Block:
    """A tensor's memory.

    Attributes
    ----------
    bytes : int
        Its size. [B]
    label : str
        What it is for.
    """

    __slots__ = ("bytes", "label")

    def __init__(self, bytes_: int, label: str) -> None:
        self.bytes, self.label = bytes_, label


class Ledger:
    """Counts what is alive.

    Attributes
    ----------
    now, peak : int
        Alive at this moment, and the most so far. [B]

    Examples
    --------
    An operation makes its result while what it reads is still there:

    >>> ledger = Ledger()
    >>> read = ledger.make(8, "scores")
    >>> made = ledger.op(4, "scores", read)
    >>> ledger.now, ledger.peak
    (4, 12)
    """

    __slots__ = ("_parts", "_rising", "alive", "now", "peak")

    def __init__(self, base: int = 0, label: str = "caches") -> None:
        self.now = self.peak = base
        self.alive = {label: base} if base else {}
        self._parts: dict[str, int] = {}
        self._rising = True

    @property
    def parts(self) -> dict[str, int]:
        """What was alive at the peak, by label. [B]"""
        return dict(self.alive) if self._rising else self._parts

    def make(self, bytes_: int, label: str) -> Block:
        """A new tensor. [B]"""
        self.now += bytes_
        self.alive[label] = self.alive.get(label, 0) + bytes_
        if self.now > self.peak:
            self.peak, self._rising = self.now, True
        return Block(bytes_, label)

    def drop(self, *blocks: Block | None) -> None:
        """Tensors that nothing names any more."""
        for block in blocks:
            if block is not None and block.bytes:
                if self._rising:  # the peak so far ends here
                    self._parts, self._rising = dict(self.alive), False
                self.now -= block.bytes
                self.alive[block.label] -= block.bytes
                block.bytes = 0

    def op(self, bytes_: int, label: str, *consumed: Block | None) -> Block:
        """A result, after which what it consumed is gone. [B]"""
        made = self.make(bytes_, label)
        self.drop(*consumed)
        return made
