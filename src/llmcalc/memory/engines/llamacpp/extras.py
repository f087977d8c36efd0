"""What llama.cpp loads beside a model: what each kind says of itself, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llmcalc.estimate import INFERENCE_PHASES

if TYPE_CHECKING:
    from llmcalc.memory.engines.llamacpp.deployment import Deployment

SERVING = ("prefill", "decode")

Adapted = tuple[tuple[int, str], int, tuple[int, int]]
"""A weight by layer and role, the rank of its adapter, and the bytes of the two parts. [-], [B]"""


class Shown:
    """How one of its items is shown.

    Attributes
    ----------
    formula, source, note : str
        As in `llmcalc.estimate.Item`.
    grade : str
        How sure it is.
    low, high : int
        Percent of what is expected that it may be.
    more : int
        What it may be above that. [B]
    inputs : dict
        What the formula reads.
    phases : tuple of str
        When it is alive.
    host_only : bool
        Whether it never lies on a device.
    """

    __slots__ = (
        "formula", "grade", "high", "host_only", "inputs", "low", "more", "note", "phases", "source",
    )  # fmt: skip

    def __init__(
        self, formula: str, source: str, note: str, grade: str, *, low: int = 100, high: int = 100,
        more: int = 0, inputs: dict[str, Any] | None = None, serving: bool = False, host_only: bool = False,
    ) -> None:  # fmt: skip
        self.formula, self.source, self.note, self.grade = formula, source, note, grade
        self.low, self.high, self.more = low, high, more
        self.inputs = dict(inputs or {})
        self.phases: Sequence[str] = SERVING if serving else INFERENCE_PHASES
        self.host_only = host_only


class Extra:
    """Something beside the model.

    Attributes
    ----------
    drafted : int
        Tokens that are drafted at once: the model judges them all, and their logits are reserved. [-]
    snapshots : int
        States of each slot that a rejected draft can go back to. [-]
    shown : dict
        Its items by name, with their looks.
    warnings : list of str
        What the reader should know.
    """

    def __init__(self) -> None:
        self.drafted = self.snapshots = 0
        self.shown: dict[str, Shown] = {}
        self.warnings: list[str] = []

    def amounts(
        self, deployment: Deployment, context: int, slots: int, exact: bool
    ) -> dict[str, list[int]]:  # fmt: skip
        """Bytes of each item on each device, the host last; ``weights`` are added to the model's. [B]"""
        raise NotImplementedError

    def adapts(self, deployment: Deployment) -> Iterable[Adapted]:
        """The weights that it changes, with the rank and the bytes of each change."""
        return ()
