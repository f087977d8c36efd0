"""What fits on a card: the largest micro-batch, sequence, rank, and the largest model of the catalog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.answer.training.asked import resolve
from llmcalc.answer.training.question import Question
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.training.targets import linears

MOST_BATCH = 1 << 16
STEP = 8
"""Lengths are told in steps of so many tokens. [tokens]"""


class Room:
    """What fits beside all else as it was asked; None where it was not asked for or never ends.

    Attributes
    ----------
    max_micro_batch, safe_micro_batch : int or None
        Most sequences of this length, expected, and at the high end of the estimate. [-]
    max_seq_len, safe_seq_len : int or None
        Longest sequences of this number, within the model's limit. [tokens]
    max_lora_r, safe_lora_r : int or None
        Highest rank of adapters. [-]
    """

    __slots__ = (
        "max_lora_r",
        "max_micro_batch",
        "max_seq_len",
        "safe_lora_r",
        "safe_micro_batch",
        "safe_seq_len",
    )

    def __init__(self) -> None:
        self.max_micro_batch: int | None = None
        self.safe_micro_batch: int | None = None
        self.max_seq_len: int | None = None
        self.safe_seq_len: int | None = None
        self.max_lora_r: int | None = None
        self.safe_lora_r: int | None = None

    @property
    def max_context(self) -> Any:
        """The longest sequence, for tables over several cards. [tokens]"""
        return self.max_seq_len

    @property
    def max_concurrency(self) -> None:
        """Nothing is served here."""
        return None

    @property
    def safe_context(self) -> Any:
        """The same to be safe. [tokens]"""
        return self.safe_seq_len

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def room(question: Question, device: Device) -> Room | None:
    """Solve for each of batch, length and rank, the others as asked; None for arrays."""
    asked, found = question.asked, Room()
    if any(is_array(value) for value in (asked.batch, asked.seq, asked.choice.rank)):
        return None
    limit = question.inventory.context or 1 << 20
    found.max_micro_batch, found.safe_micro_batch = _most(
        lambda n: question.estimate(batch=n), device, MOST_BATCH, int(asked.batch)
    )
    found.max_seq_len, found.safe_seq_len = (
        STEP * n if n is not None else None
        for n in _most(
            lambda n: question.estimate(seq=STEP * n), device, max(limit // STEP, 1), asked.seq // STEP
        )
    )
    if asked.method in ("lora", "qlora", "dora"):
        targets = asked.choice.targets
        widest = min(
            min(one.inputs, one.outputs) for one in linears(question.inventory) if one.key in targets
        )
        found.max_lora_r, found.safe_lora_r = _most(
            lambda n: question.estimate(rank=n), device, widest, int(asked.choice.rank)
        )
    return found


def _most(estimate: Callable[[int], Any], device: Device, limit: int, start: int) -> tuple[int, int]:
    """The largest number that is expected to fit, and the one that surely does; 0 if none."""
    expected = largest(lambda n: bool(estimate(n).total <= device.usable_bytes), limit, start)
    if not expected:
        return 0, 0
    return expected, largest(lambda n: bool(estimate(n).high <= device.usable_low), expected, expected)


def largest(fits: Callable[[int], bool], limit: int, start: int = 1) -> int:
    """The largest whole number up to a limit that fits, where all smaller ones do; 0 if none does.

    Examples
    --------
    >>> largest(lambda n: n * n <= 50, 100)
    7
    """
    low, high = 0, max(1, min(start, limit))
    while fits(high):
        low = high
        if high == limit:
            return limit
        high = min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def largest_models(
    given: dict[str, Any], device: Device, book: Catalog, most: int = 5
) -> list[tuple[str, Question]]:
    """The largest models of the catalog that a card surely trains so, largest first.

    Parameters
    ----------
    given : dict
        Keywords of `llmcalc.train`, without the model.
    device : Device
        The card.
    book : Catalog
        Where models are.
    most : int
        How many.
    """
    from llmcalc.model import readers
    from llmcalc.precision import stored_as_declared

    sizes = sorted(((int(row[0]), row[-1]) for row in book.table("model_spans")), reverse=True)
    least = _least(given, book)
    found: list[tuple[str, Question]] = []
    for parameters, name in sizes:
        if parameters * least > device.usable_low:
            continue
        try:
            inventory = stored_as_declared(readers.read(name, book, None), book)
            question = Question(inventory, resolve(inventory, book, given), book, device)
            if bool(question.estimate().high <= device.usable_low):
                found.append((name, question))
        except LlmcalcError:
            continue
        if len(found) == most:
            break
    return found


def _least(given: dict[str, Any], book: Catalog) -> float:
    """Bytes that a parameter takes at the least, to pass over models that can't fit. [B]"""
    from llmcalc.memory.training.recipes import find_recipe

    method = given.get("method") or "full"
    if method != "full":
        return 0.4 if method == "qlora" or given.get("quant") else 1.9
    recipe = find_recipe(given.get("precision") or "bf16-mixed")
    return float(recipe.weights + recipe.master)
