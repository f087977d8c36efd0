"""What fits on a card: the largest micro-batch, sequence, rank, and the largest model of the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llmcalc.answer.training.asked import resolve
from llmcalc.answer.training.question import Question
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.training.targets import linears

MOST_BATCH = 1 << 16
STEP = 1
"""Lengths are searched in steps of so many tokens. [tokens]"""


class Room:
    """What fits beside all else as it was asked, each solved for when somebody looks.

    Parameters
    ----------
    question : Question
        What was asked.
    device : Device
        The card.
    known : Estimate
        Of the question as it stands.

    Attributes
    ----------
    max_micro_batch, safe_micro_batch : int
        Most sequences of this length, expected, and at the high end of the estimate. [-]
    max_seq_len, safe_seq_len : int
        Longest sequences of this number, within the model's limit. [tokens]
    max_lora_r, safe_lora_r : int or None
        Highest rank of adapters; None where there are none. [-]
    """

    NAMES = (
        "max_micro_batch", "safe_micro_batch", "max_seq_len", "safe_seq_len", "max_lora_r", "safe_lora_r",
    )  # fmt: skip

    def __init__(self, question: Question, device: Device, known: Any) -> None:
        self._question, self._device, self._known = question, device, known
        self._found: dict[str, int | None] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in Room.NAMES:
            raise AttributeError(name)
        if name not in self._found:
            self._solve(name.partition("_")[2])
        return self._found[name]

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
        return {name: getattr(self, name) for name in self.NAMES}

    def _solve(self, what: str) -> None:
        question, asked = self._question, self._question.asked
        unit, limit, start = 1, MOST_BATCH, int(asked.batch)
        if what == "seq_len":
            unit, start = STEP, int(asked.seq)
            limit = (question.inventory.context or 1 << 20) // STEP
        elif what == "lora_r":
            if asked.method not in ("lora", "qlora", "dora"):
                self._found |= {"max_lora_r": None, "safe_lora_r": None}
                return
            start, targets = int(asked.choice.rank), asked.choice.targets
            widths = [
                min(one.inputs, one.outputs) for one in linears(question.inventory) if one.key in targets
            ]
            limit = min(widths)
        keyword = {"micro_batch": "batch", "seq_len": "seq", "lora_r": "rank"}[what]
        made: dict[int, Any] = {start // unit: self._known} if start % unit == 0 else {}

        def estimate(number: int) -> Any:
            if number not in made:
                made[number] = question.estimate(**{keyword: unit * number})
            return made[number]

        device, known = self._device, self._known
        first = _guess(known, device.usable_bytes, "amounts", start) // unit
        most = largest(
            lambda n: int(estimate(n).process), device.usable_bytes, limit, first, _within(made, limit)
        )
        first = _guess(known, device.usable_low, "high", start) // unit
        safe = (
            largest(
                lambda n: int(estimate(n).process_high), device.usable_low, most, first, _within(made, most)
            )
            if most
            else 0
        )
        self._found |= {f"max_{what}": unit * most, f"safe_{what}": unit * safe}


def _within(made: dict[int, Any], limit: int) -> list[int]:
    return [number for number in made if 1 <= number <= limit]


def _guess(known: Any, budget: int, end: str, start: int) -> int:
    """Where the edge would be if all that is neither weights nor states grew in proportion."""
    runtime = getattr(known.whole, end)[0]
    slack = sum(getattr(part, end)[0] for part in known.whole.items if part.name == "allocator")
    share = (budget - runtime + slack) * known.allocated // max(known.allocated + slack, 1)
    found = []
    for moment in known.moments:
        fixed = sum(moment.held.get(name, 0) for name in FIXED)
        grows = moment.total - fixed
        if grows > 0:
            found.append(start * (share - fixed) // grows)
    return max(min(found, default=start), 0)


FIXED = ("weights", "master_weights", "gradients", "optimizer")


def room(question: Question, device: Device, report: Any) -> Room | None:
    """Batch, length and rank that fit, the others as asked; None for arrays."""
    asked = question.asked
    if any(is_array(value) for value in (asked.batch, asked.seq, asked.choice.rank)):
        return None
    return Room(question, device, report.timeline)


def largest(
    need: Callable[[int], int], budget: int, limit: int, start: int = 1, told: Iterable[int] = ()
) -> int:
    """The largest whole number up to a limit whose need is within a budget, where needs grow; 0 if none is.

    Needs are nearly straight lines, so that a line through what is known finds the place in a few steps;
    `told` are numbers whose need costs nothing to look up.

    Examples
    --------
    >>> largest(lambda n: n * n, 50, 100)
    7
    """
    low, high = 0, limit + 1
    known: dict[int, int] = {}
    for number in told:
        known[number] = need(number)
        if known[number] <= budget:
            low = max(low, number)
        else:
            high = min(high, number)
    guess = max(low + 1, min(start, high - 1))
    if low and high <= limit and high - low > 1:  # known on both sides: better than any start
        guess = _next(known, budget, low, high)
    while high - low > 1:
        known[guess] = need(guess)
        if known[guess] <= budget:
            low = guess
        else:
            high = guess
        guess = _next(known, budget, low, high)
    return low


def _next(known: dict[int, int], budget: int, low: int, high: int) -> int:
    """Where to look next.

    Needs bend upwards where the peak moves: of those above the budget the lowest two are on the last piece,
    whose line meets the budget at the edge or before it. Halves where that fails to close in.
    """
    if len(known) > LINES:
        return (low + high) // 2
    over, under = sorted(n for n in known if n >= high), sorted(n for n in known if n <= low)
    if not under and len(over) == 1:
        return high - 1
    if not over and len(under) == 1:
        return low + 1
    if not over:
        first, second = under[-2:]
        rise = known[second] - known[first]
        there = second + (budget - known[second]) * (second - first) // rise if rise > 0 else 2 * second
        return max(low + 1, min(there, high - 1))
    first, second = over[:2] if len(over) > 1 else (under[-1], over[0])
    rise = known[second] - known[first]
    there = second + (budget - known[second]) * (second - first) // rise if rise > 0 else (low + high) // 2
    return max(low + 1, min(there, high - 1))


LINES = 12
"""Steps along lines before halves are taken."""


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
            if bool(question.estimate().process_high <= device.usable_low):
                found.append((name, question))
        except LlmcalcError:
            continue
        if len(found) == most:
            break
    return found


def _least(given: dict[str, Any], book: Catalog) -> float:
    """Bytes that a parameter takes at the least, to pass over models that can't fit. [B]"""
    from llmcalc.memory.training.precisions import find_recipe

    method = given.get("method") or "full"
    if method != "full":
        return 0.4 if method == "qlora" or given.get("quant") else 1.9
    recipe = find_recipe(given.get("precision") or "bf16-mixed")
    return float(recipe.weights + recipe.master)
