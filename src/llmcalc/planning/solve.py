"""Solve an estimate backwards: what is the most that fits?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmcalc.formula import Quantity, is_array, smaller, where
from llmcalc.memory.caches import Profile

LONGEST = 1 << 40
"""Where a search for the longest sequence stops. [tokens]"""

TRIED = 1 << 24
"""The same where each length is a trial of buffers and all. [tokens]"""


LINES = 12
"""Tries along a line before halving. [-]"""


def largest(fits: Callable[[Quantity], Any], most: int, like: Quantity = 0) -> Quantity:
    """The largest whole number up to `most` for which `fits` holds; 0 if none.

    Parameters
    ----------
    fits : callable
        True up to some number and false above. Takes what it returns for: an int, or an array
        where `like` is one.
    most : int
        The largest number to try. [-]
    like : int or ndarray
        Gives the shape of the answer. [-]

    Examples
    --------
    >>> largest(lambda n: n * n <= 1000, 100)
    31
    """
    low, high = like * 0, like * 0 + most
    # `low` always fits (or is 0), `high` is the most that may; halve until they meet.
    for _ in range(most.bit_length() + 1):
        middle = (low + high + 1) // 2
        good = fits(middle)
        low, high = where(good, middle, low), where(good, high, middle - 1)
    return smaller(low, most) if is_array(low) else low


def most_that_fits(room: Callable[[int], int], most: int) -> int:
    """The largest whole number up to `most` that leaves room; 0 if none.

    Parameters
    ----------
    room : callable
        What is left for a number: falls as it grows, almost along a line. Asked some five times.
    most : int
        The largest number to try. [-]

    Examples
    --------
    >>> most_that_fits(lambda n: 1000 - n * n, 100)
    31
    """
    if room(most) >= 0:
        return most
    low, high = 1, most
    left, right = room(low), room(high)
    if left < 0:
        return 0
    nudge, tries = 0, 0
    while high - low > 1:
        # Along the line, for it is almost one; past what it says while the answer stays on one side, so
        # that the two ends close in; then by halves, which always ends.
        line = low + (high - low) * left // (left - right)
        guess = min(max(line + nudge, low + 1), high - 1) if tries < LINES else low + (high - low) // 2
        found = room(guess)
        if found >= 0:
            low, left, nudge = guess, found, 2 * nudge if nudge > 0 else 1
        else:
            high, right, nudge = guess, found, 2 * nudge if nudge < 0 else -1
        tries += 1
    return low


def settled(room: Callable[[int, bool], int], most: int, sure: int | None = None) -> int:
    """The largest number that leaves room: searched quickly, then settled exactly.

    Parameters
    ----------
    room : callable
        What is left for a number, quickly (False) or exactly (True).
    most : int
        The largest number to try. [-]
    sure : int, optional
        With as much left by the quick way, the exact one is not asked. [B]
    """
    found = most_that_fits(lambda n: room(n, False), most)
    if found == most and sure is not None and room(found, False) >= sure:
        return found
    while found and room(found, True) < 0:
        found -= 1
    while found < most and room(found + 1, True) >= 0:
        found += 1
    return found


def _or_any(found: Quantity) -> Quantity:
    """None where any length fits, because the caches stop growing."""
    return None if not is_array(found) and found >= LONGEST else found


class Capacity:
    """What fits in the memory that the rest leaves.

    Attributes
    ----------
    kv_budget_bytes : int
        Left for caches on the rank with least. [B]
    kv_tokens : int, ndarray or None
        Tokens of one sequence that the budget holds, the model's limit aside; None for any. [tokens]
    kv_bytes_per_token : int or ndarray
        Bytes that one more token of one sequence costs at this context, on the worst rank. [B]
    max_concurrency : int or ndarray
        Sequences of this context held at once. [-]
    max_context : int, ndarray or None
        Longest context of this many sequences, within the model's limit; None for any. [tokens]
    safe_context : int, ndarray or None
        The same at the unfavourable end of every range. [tokens]
    """

    __slots__ = (
        "kv_budget_bytes", "kv_bytes_per_token", "kv_tokens", "max_concurrency", "max_context",
        "safe_context",
    )  # fmt: skip

    def __init__(self, **values: Quantity) -> None:
        for name in self.__slots__:
            setattr(self, name, values[name])

    def to_dict(self) -> dict[str, Quantity]:
        """The figures by name."""
        return {name: getattr(self, name) for name in Capacity.__slots__}


class TrialCapacity(Capacity):
    """The same where memory is known by trial alone: each length is an estimate of its own.

    Parameters
    ----------
    room : callable
        What is left for a context and sequences, safely or as expected, exactly or quickly. [B]
    sequences : int
        Held at once. [-]
    limit : int or None
        The model's longest context. [tokens]
    step : int
        Contexts are searched in these. [tokens]
    sure : int
        With as much left by the quick way, the exact one is not asked. [B]
    **values
        The other figures.
    """

    __slots__ = ("_room", "_sequences", "_step", "_sure")

    def __init__(
        self, room: Callable[[int, int, bool, bool], int], sequences: int, limit: int | None, step: int,
        sure: int, **values: Quantity,
    ) -> None:  # fmt: skip
        self._room, self._sequences, self._step, self._sure = room, sequences, step, sure
        for name, value in values.items():
            setattr(self, name, value)
        most = -(-limit // step) if limit else TRIED // step

        def longest(safe: bool) -> int | None:
            found = self._longest(sequences, safe, most)
            return limit if found is None and limit else found

        self.max_context, safe = longest(False), longest(True)
        if self.max_context is not None:
            safe = self.max_context if safe is None else min(safe, self.max_context)
        self.safe_context = safe

    def _longest(self, many: int, safe: bool, most: int) -> int | None:
        """The longest context in whole steps; None where `most` of them leave room. [tokens]"""
        steps = settled(lambda n, exact: self._room(n * self._step, many, safe, exact), most, self._sure)
        return None if steps == most else steps * self._step

    def __getattr__(self, name: str) -> int | None:
        """``kv_tokens`` takes a search of its own, so it is made when it is asked for."""
        if name != "kv_tokens":
            raise AttributeError(name)
        self.kv_tokens: Quantity = self._longest(1, False, TRIED // self._step)
        return self.kv_tokens


def capacity(
    profiles: Sequence[Profile],
    budgets: Sequence[int],
    safe_budgets: Sequence[int],
    context: Quantity,
    sequences: Quantity,
    limit: int | None,
) -> Capacity:
    """Solve for context and sequences on every rank.

    Parameters
    ----------
    profiles : sequence of Profile
        How the caches of each rank class grow.
    budgets, safe_budgets : sequence of int
        Bytes left for caches on each rank class: expected, and at the unfavourable end. [B]
    context, sequences : int or ndarray
        The scenario. [tokens], [-]
    limit : int or None
        The model's longest context. [tokens]
    """
    most = limit or LONGEST

    def fits(room: Sequence[int], many: Quantity) -> Callable[[Quantity], Any]:
        def check(tokens: Quantity) -> Any:
            held: Any = True
            for profile, budget in zip(profiles, room, strict=True):
                # Divided, not multiplied, so that arrays can't overflow.
                held = held & (profile.bytes(tokens) <= budget // many)
            return held

        return check

    per_sequence = [profile.bytes(context) for profile in profiles]
    concurrency: Quantity = None
    for one, budget in zip(per_sequence, budgets, strict=True):
        if is_array(one) or one:
            many = where(budget > 0, budget, 0) // one
            concurrency = many if concurrency is None else smaller(concurrency, many)
    per_token: Quantity = 0
    for profile in profiles:
        grows = profile.bytes_per_token(context)
        per_token = where(grows > per_token, grows, per_token)
    return Capacity(
        kv_budget_bytes=min(budgets),
        kv_tokens=_or_any(largest(fits(budgets, 1), LONGEST)),
        kv_bytes_per_token=per_token,
        max_concurrency=concurrency,
        max_context=_or_any(largest(fits(budgets, sequences), most, sequences)),
        safe_context=_or_any(largest(fits(safe_budgets, sequences), most, sequences)),
    )
