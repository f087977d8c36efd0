"""Memory that is alive: a storage is freed with its last name, so names on the tape count as PyTorch's do."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, is_array, where

LOGITS = "logits"
"""Label of logits, their copies and their gradients."""

FREED, GRADIENT, FORWARD, HELD = -1, -2, -3, -4
"""In a log of what is taken: something is freed; it is a parameter's gradient; the forward pass is over;
what is held to the end of all layers' forward is gone."""


class Ledger:
    """What one stretch of a step holds, and the most it held.

    Attributes
    ----------
    now, saved, logits, gradients : int or ndarray
        Alive: everything; what autograd holds; logits that it does not hold; gradients of parameters. [B]
    peak : int or ndarray
        The most that was alive since `mark`. [B]
    parts : dict
        What autograd holds, by label. [B]
    log : list of (int, int) or None
        Everything that comes and goes, in order, where that is wanted.

    Examples
    --------
    >>> ledger = Ledger()
    >>> one = Storage(ledger, 8, "attention")
    >>> two = Storage(ledger, 4, "attention")
    >>> del one
    >>> ledger.now, ledger.peak
    (4, 12)
    """

    __slots__ = ("_at", "gradients", "log", "logits", "now", "parts", "peak", "saved")

    def __init__(self, logs: bool = False) -> None:
        self.log: list[tuple[int, Any]] | None = [] if logs else None
        self.now: Quantity = 0
        self.saved: Quantity = 0
        self.logits: Quantity = 0
        self.gradients: Quantity = 0
        self.parts: dict[str, Quantity] = {}
        self.mark()

    def tell(self, what: int) -> None:
        """Put a mark into the log."""
        if self.log is not None:
            self.log.append((0, what))

    def mark(self) -> None:
        """Begin to look for a peak anew."""
        self.peak: Quantity = -1
        self._note()

    def add(self, bytes_: Quantity) -> None:
        """Something came to life."""
        self.now = self.now + bytes_
        self._note()

    def _note(self) -> None:
        higher = self.now > self.peak
        if higher is False:
            return
        here = (self.saved, self.logits, self.gradients)
        if higher is True:
            self.peak, self._at = self.now, here
        else:
            self.peak = where(higher, self.now, self.peak)
            pairs = zip(here, self._at, strict=True)
            self._at = tuple(a if a is b else where(higher, a, b) for a, b in pairs)

    def at_peak(self) -> tuple[Quantity, Quantity, Quantity, Quantity]:
        """Saved, logits, gradients of parameters and all else at the peak. [B]"""
        saved, logits, gradients = self._at
        return saved, logits, gradients, self.peak - saved - logits - gradients


class Storage:
    """Memory of one tensor and its views.

    Attributes
    ----------
    bytes : int or ndarray
        Its size. [B]
    label : str
        What it is for.
    holds : int
        How many nodes of the graph save it.
    remade : bool
        Whether nodes that save it drop it, and make it again when they run.
    """

    __slots__ = ("bytes", "holds", "label", "ledger", "remade")

    def __init__(self, ledger: Ledger, bytes_: Quantity, label: str) -> None:
        self.ledger, self.bytes, self.label, self.holds = ledger, bytes_, label, 0
        self.remade = False
        if label == LOGITS:
            ledger.logits = ledger.logits + bytes_
        ledger.add(bytes_)
        if ledger.log is not None:
            ledger.log.append((id(self), bytes_))

    def hold(self) -> None:
        """A node saves it."""
        self.holds += 1
        if self.holds == 1:
            self._move(self.bytes)

    def let_go(self) -> None:
        """A node needs it no more."""
        self.holds -= 1
        if not self.holds:
            self._move(-self.bytes)

    def relabel(self, label: str) -> None:
        """It is for something else from now on."""
        if self.label == LOGITS and not self.holds:
            self.ledger.logits = self.ledger.logits - self.bytes
        self.label = label
        if self.ledger.log is not None and label == "gradients":
            self.ledger.log.append((id(self), GRADIENT))

    def _move(self, bytes_: Quantity) -> None:
        ledger = self.ledger
        ledger.saved = ledger.saved + bytes_
        ledger.parts[self.label] = ledger.parts.get(self.label, 0) + bytes_
        if self.label == LOGITS:
            ledger.logits = ledger.logits - bytes_

    def __del__(self) -> None:
        if self.holds:
            self._move(-self.bytes)
        ledger = self.ledger
        ledger.now = ledger.now - self.bytes
        if ledger.log is not None:
            ledger.log.append((id(self), FREED))
        if self.label == LOGITS:
            ledger.logits = ledger.logits - self.bytes


def differs(a: Quantity, b: Quantity) -> bool:
    """Whether two amounts are not the same."""
    if is_array(a) or is_array(b):
        import numpy as np

        return bool(np.any(np.not_equal(a, b)))
    return bool(a != b)
