"""Solve an estimate backwards: what is the most that fits?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmcalc.formula import Quantity, is_array, smaller, where
from llmcalc.memory.caches import Profile

LONGEST = 1 << 40
"""Where a search for the longest sequence stops. [tokens]"""

TRIED = 1 << 24
"""The same where each length is a trial of buffers and all. [tokens]"""


LINES = 12
"""Tries along a line before halving. [-]"""


NEAR = 8
"""One more is tried exactly where it is missed by less than such a part of its cost. [-]"""


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


def most_that_fits(room: Callable[[int], int], most: int, known: Mapping[int, int] | None = None) -> int:
    """The largest whole number up to `most` that leaves room; 0 if none.

    Parameters
    ----------
    room : callable
        What is left for a number: falls as it grows, almost along a line or a parabola. Asked some five
        times.
    most : int
        The largest number to try. [-]
    known : mapping, optional
        What is left for some numbers, where that is known already.

    Examples
    --------
    >>> most_that_fits(lambda n: 1000 - n * n, 100)
    31

    A parabola takes four trials: the end, along a line, what it hits, and the one beside it:

    >>> tried = []
    >>> most_that_fits(lambda n: tried.append(n) or 10**9 - 7 * n - n * n, 10**6, {1000: 10**9 - 1007000})
    31619
    >>> len(tried)
    4
    """
    seen = {n: left for n, left in (known or {}).items() if 0 < n <= most}

    def left_by(number: int) -> int:
        if number not in seen:
            seen[number] = room(number)
        return seen[number]

    if most < 1 or left_by(most) >= 0:
        return max(most, 0)
    low = max((n for n, left in seen.items() if left >= 0), default=0)
    high = min(n for n, left in seen.items() if left < 0 and n > low)
    if not low and high > 1:
        low = 1 if left_by(1) >= 0 else 0
    if not low:
        return 0
    streak, tries = 0, 0
    while high - low > 1:
        # Where the curve says; past it while the answer stays on one side, so that the two ends close in;
        # then by halves, which always ends.
        guess = low + (high - low) // 2
        if tries < LINES:
            past = (1 << abs(streak) >> 2) * (1 if streak > 0 else -1)
            guess = min(max(_crossing(seen, low, high) + past, low + 1), high - 1)
        if left_by(guess) >= 0:
            low, streak = guess, max(streak, 0) + 1
        else:
            high, streak = guess, min(streak, 0) - 1
        tries += 1
    return low


def _crossing(seen: Mapping[int, int], low: int, high: int) -> int:
    """Where the parabola through the two ends and the nearest other number leaves nothing."""
    left, right, wide = seen[low], seen[high], high - low
    line = wide * left // (left - right)
    others = [n for n in seen if n not in (low, high)]
    if not others:
        return low + line
    third = min(others, key=lambda n: min(abs(n - low), abs(n - high)))
    slope = (right - left) / wide
    bend = ((seen[third] - left) / (third - low) - slope) / (third - high)
    start = slope - bend * wide  # left + start t + bend t^2 = 0
    under = start * start - 4 * bend * left
    if start >= 0 or under < 0:
        return low + line
    return low + int(2 * left / (under**0.5 - start))


def settled(
    room: Callable[[int, bool], int],
    most: int,
    sure: int | None = None,
    known: Mapping[int, int] | None = None,
) -> int:
    """The largest number that leaves room: predicted quickly, then settled exactly.

    Parameters
    ----------
    room : callable
        What is left for a number, quickly (False) or exactly (True).
    most : int
        The largest number to try. [-]
    sure : int, optional
        With as much left by the quick way the exact one is not asked, nor where by both together one more is
        surely too many; None for a quick way that is far off. [B]
    known : mapping, optional
        What is left for some numbers exactly, where that is known already.

    Examples
    --------
    The quick way is off, and by more for larger numbers; exact trials tell:

    >>> tried = []
    >>> def room(number, exact):
    ...     tried.extend([number] if exact else [])
    ...     return 10_000 - (11 if exact else 10) * number - (77 if exact else 0)
    >>> settled(room, 5_000, known={100: 10_000 - 1_177}), len(tried)
    (902, 3)
    """
    quickly: dict[int, int] = {}
    exactly = {n: left for n, left in (known or {}).items() if 0 < n <= most}

    def quick(number: int) -> int:
        if number not in quickly:
            quickly[number] = room(number, False)
        return quickly[number]

    if most < 1 or (sure is not None and quick(most) >= sure):
        return max(most, 0)
    for tries in range(LINES + most.bit_length() + 1):
        low = max((n for n, left in exactly.items() if left >= 0), default=0)
        high = min((n for n, left in exactly.items() if left < 0 and n > low), default=most + 1)
        if high - low <= 1 or (
            low and sure is not None and _is_last(exactly[low], quick(low) - quick(low + 1))
        ):
            return low
        guess = (low + high) // 2
        if tries < LINES:
            last = {n: exactly[n] for n in list(exactly)[-2:]}  # through these the corrected way goes
            guess = most_that_fits(_corrected(quick, last), most, last)
        guess = min(max(guess, low + 1), high - 1)
        exactly[guess] = room(guess, True)
    return low


def _is_last(left: int, step: int) -> bool:
    """Whether one more is surely too many: by what it costs quickly, which is nearly what it does exactly."""
    return step > 0 and left < step * (NEAR - 1) // NEAR


def _corrected(quick: Callable[[int], int], exactly: Mapping[int, int]) -> Callable[[int], int]:
    """The quick way, put right by what it is off by, along a line through two exact trials."""
    ends = [(n, left - quick(n)) for n, left in exactly.items()]

    def corrected(number: int) -> int:
        if not ends:
            return quick(number)
        (one, off), (other, last) = ends[0], ends[-1]
        slope = (last - off) * (number - other) // (other - one) if other != one else 0
        return quick(number) + last + slope

    return corrected


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


class LazyCapacity(Capacity):
    """The same, each figure found when somebody asks for it: a search takes several estimates.

    Parameters
    ----------
    **finders
        What finds each figure.
    """

    __slots__ = ("_finders",)

    def __init__(self, **finders: Callable[[], Quantity]) -> None:
        self._finders = finders

    def __getattr__(self, name: str) -> Quantity:
        if name.startswith("_") or name not in self._finders:
            raise AttributeError(name)
        found = self._finders[name]()
        setattr(self, name, found)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _found, (self.to_dict(),)


def _found(values: dict[str, Quantity]) -> Capacity:
    """A copy, with all figures."""
    return Capacity(**values)


class TrialCapacity(LazyCapacity):
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
    sure : int or None
        With as much left by the quick way, the exact one is not asked; None asks always. [B]
    asked : int
        The context whose room is known. [tokens]
    outlook : callable, optional
        Whether a context surely fits (True) or nothing does (False), for a context and sequences; None where
        only trials tell.
    **finders
        What finds the other figures.
    """

    __slots__ = ("_asked", "_limit", "_outlook", "_room", "_sequences", "_step", "_sure")

    def __init__(
        self, room: Callable[[int, int, bool, bool], int], sequences: int, limit: int | None, step: int,
        sure: int | None, asked: int, outlook: Callable[[int, int, bool], bool | None] | None = None,
        **finders: Callable[[], Quantity],
    ) -> None:  # fmt: skip
        self._room, self._sequences, self._step, self._sure = room, sequences, step, sure
        self._limit, self._asked, self._outlook = limit, asked, outlook
        super().__init__(
            kv_tokens=lambda: self._longest(1, False, TRIED // step),
            max_context=lambda: self._within_limit(False),
            safe_context=self._safe,
            **finders,
        )

    def _longest(self, many: int, safe: bool, most: int) -> int | None:
        """The longest context in whole steps; None where `most` of them leave room. [tokens]"""
        known: dict[int, int] = {}
        fits = self._outlook(most * self._step, many, safe) if self._outlook is not None else None
        if fits is not None:
            return None if fits else 0
        if many == self._sequences and not self._asked % self._step:
            known[self._asked // self._step] = self._room(self._asked, many, safe, True)
        steps = settled(
            lambda n, exact: self._room(n * self._step, many, safe, exact), most, self._sure, known
        )
        return None if steps == most else steps * self._step

    def _within_limit(self, safe: bool) -> int | None:
        most = -(-self._limit // self._step) if self._limit else TRIED // self._step
        found = self._longest(self._sequences, safe, most)
        return self._limit if found is None and self._limit else found

    def _safe(self) -> int | None:
        """What is safe is possible."""
        safe, expected = self._within_limit(True), self.max_context
        if expected is None:
            return safe
        return int(expected) if safe is None else min(safe, int(expected))


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
