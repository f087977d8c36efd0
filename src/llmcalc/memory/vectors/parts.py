"""One part of a vector store: bytes in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Part:
    """What one thing takes.

    Attributes
    ----------
    name : str
        What it is.
    memory, disk : int
        Bytes while it serves, and in the file. [B]
    note : str
        How it comes about.
    grade : str
        ``exact``, ``derived`` or ``assumed``.
    formula, inputs
        The leaf formula and its arguments, where one gives it.
    spread : int
        Bytes that it may lie above or below. [B]
    grows : bool
        Whether adding vectors in batches copies it for a moment.
    """

    __slots__ = ("disk", "formula", "grade", "grows", "inputs", "memory", "name", "note", "spread")

    def __init__(
        self, name: str, memory: int, disk: int, note: str, grade: str = "exact", formula: str = "",
        inputs: Mapping[str, Any] | None = None, spread: int = 0, grows: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.memory, self.disk, self.note, self.grade = name, memory, disk, note, grade
        self.formula, self.inputs, self.spread, self.grows = formula, dict(inputs or {}), spread, grows
