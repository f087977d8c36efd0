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
        What is left for a number: falls as it grows, almost along a line. Asked some ten times.
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
    halve = False
    while high - low > 1:
        # Along the line first, for it is almost one; then by halves, which always ends.
        guess = low + (high - low) // 2 if halve else low + (high - low) * left // (left - right)
        guess = min(max(guess, low + 1), high - 1)
        found = room(guess)
        if found >= 0:
            low, left = guess, found
        else:
            high, right = guess, found
        halve = not halve
    return low


def settled(room: Callable[[int, bool], int], most: int) -> int:
    """The largest number that leaves room: searched quickly, then settled exactly.

    Parameters
    ----------
    room : callable
        What is left for a number, quickly (False) or exactly (True).
    most : int
        The largest number to try. [-]
    """
    found = most_that_fits(lambda n: room(n, False), most)
    while found and room(found, True) < 0:
        found -= 1
    while found < most and room(found + 1, True) >= 0:
        found += 1
    return found


def longest_contexts(
    room: Callable[[int, int, bool, bool], int], sequences: int, limit: int | None, step: int
) -> dict[str, int | None]:
    """The contexts of a `Capacity`, in whole steps, where memory is known by trial alone.

    Parameters
    ----------
    room : callable
        What is left for a context and sequences, safely or as expected, exactly or quickly.
    sequences : int
        Held at once. [-]
    limit : int or None
        The model's longest context. [tokens]
    step : int
        Contexts are searched in these. [tokens]
    """
    beyond = TRIED // step
    most = -(-limit // step) if limit else beyond

    def longest(many: int, safe: bool = False, upto: int = most) -> int | None:
        steps = settled(lambda n, exact: room(n * step, many, safe, exact), upto)
        if steps == upto:
            return limit if limit and upto == most else None
        return steps * step

    expected, safe = longest(sequences), longest(sequences, safe=True)
    if expected is not None:
        safe = expected if safe is None else min(safe, expected)
    return {"kv_tokens": longest(1, upto=beyond), "max_context": expected, "safe_context": safe}


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
        return {name: getattr(self, name) for name in self.__slots__}


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
