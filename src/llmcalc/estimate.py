"""Items, phases, ranks, ranges and grades: plain data that every estimator returns.

An item says where it lies, in which phases it is alive and how many bytes it takes on each rank
class. The peak is the largest sum over ranks and phases of what is alive, never a sum of maxima.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from llmcalc.errors import SizeOverflowError
from llmcalc.formula import INT64_MAX, Quantity, is_array

GRADES = ("exact", "derived", "calibrated", "assumed")
INFERENCE_PHASES = ("load", "prefill", "decode")


def worst_grade(grades: Iterable[str]) -> str:
    """The weakest of some grades.

    Examples
    --------
    >>> worst_grade(["exact", "assumed", "derived"])
    'assumed'
    """
    return max(grades, key=GRADES.index, default="exact")


class Item:
    """One line of an estimate.

    Parameters
    ----------
    name : str
        Its name in tables and JSON.
    amounts : sequence of int or ndarray
        Expected bytes on each rank class. [B]
    low, high : sequence, optional
        The range on each rank class; the expected amounts if left out. [B]
    where : str
        ``device``, ``host`` or ``disk``.
    phases : sequence of str
        The phases in which it is alive.
    grade : str
        ``exact``, ``derived``, ``calibrated`` or ``assumed``.
    formula : str
        Name of the leaf formula or of the rule that made the number.
    inputs : mapping
        What went into the formula.
    source : str
        Where formula or constant come from.
    note : str
        A few words for the table.
    items : sequence of Item
        Parts that add up to this item.
    """

    __slots__ = (
        "amounts", "at_peak", "formula", "grade", "high", "inputs", "items", "low", "name", "note",
        "phases", "source", "where",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        amounts: Sequence[Quantity],
        *,
        low: Sequence[Quantity] | None = None,
        high: Sequence[Quantity] | None = None,
        where: str = "device",
        phases: Sequence[str] = INFERENCE_PHASES,
        grade: str = "exact",
        formula: str = "",
        inputs: Mapping[str, Any] | None = None,
        source: str = "",
        note: str = "",
        items: Sequence[Item] = (),
    ) -> None:
        self.name = name
        self.amounts = tuple(amounts)
        self.low = self.amounts if low is None else tuple(low)
        self.high = self.amounts if high is None else tuple(high)
        self.where = where
        self.phases = tuple(phases)
        self.grade: str = worst_grade([grade, *(part.grade for part in items)]) if items else grade
        self.formula = formula
        self.inputs = dict(inputs or {})
        self.source = source
        self.note = note
        self.items = tuple(items)
        self.at_peak: Quantity = 0

    @property
    def bytes(self) -> Quantity:
        """The item's own maximum, on its worst rank. [B]"""
        return _largest(self.amounts)

    @property
    def bytes_at_peak(self) -> Quantity:
        """Its share at the moment and on the rank of the peak. [B]"""
        return self.at_peak

    @property
    def range_bytes(self) -> tuple[Quantity, Quantity]:
        """Low and high, on the worst rank. [B]"""
        return _largest(self.low), _largest(self.high)

    def __repr__(self) -> str:
        return f"<{self.name} {self.bytes} bytes, {self.grade}>"


def _largest(values: Sequence[Quantity]) -> Quantity:
    if not any(is_array(value) for value in values):
        return max(values)
    from llmcalc.formula import larger

    most = values[0]
    for value in values[1:]:
        most = larger(most, value)
    return most


def add_up(values: Iterable[Quantity]) -> Quantity:
    """Add up numbers and arrays: the numbers first, so that an array sum takes one pass an array.

    Examples
    --------
    >>> add_up([1, 2, 3])
    6
    """
    total: Quantity = 0
    arrays = []
    for value in values:
        if is_array(value):
            arrays.append(value)
        else:
            total += value
    if len(arrays) + bool(total) > 1 and sum(int(array.max()) for array in arrays) + int(total) > INT64_MAX:
        raise SizeOverflowError(
            "A sum overflows 64 bits for these arrays.",
            "Use smaller values, or single numbers, which are exact at any size.",
        )
    for array in arrays:
        total = array if not is_array(total) and total == 0 else total + array
    return total


class Peak:
    """When and where most bytes are held.

    Parameters
    ----------
    phase, rank : str or list of str
        Names; a list where array inputs move the peak.
    total, low, high : int or ndarray
        Bytes on the device at that moment. [B]
    """

    __slots__ = ("high", "low", "phase", "rank", "total")

    def __init__(self, phase: Any, rank: Any, total: Quantity, low: Quantity, high: Quantity) -> None:
        self.phase, self.rank, self.total, self.low, self.high = phase, rank, total, low, high


def _moments(
    items: Sequence[Item], ranks: Sequence[str], phases: Sequence[str]
) -> list[tuple[str, int, list[Item]]]:
    """Each (phase, rank) that may be the peak, with the device items that count there.

    A phase in which no more is alive than in another can't be the peak; of equal phases the last is
    named, for a cache is full only at the last token.
    """
    counting = [item for item in items if item.where == "device" and any(map(_is_something, item.high))]
    alive = {phase: [item for item in counting if phase in item.phases] for phase in phases}
    candidates: dict[str, list[Item]] = {}
    for phase in reversed(phases):
        here = set(map(id, alive[phase]))
        if not any(here <= set(map(id, more)) for more in candidates.values()):
            candidates = {name: more for name, more in candidates.items() if not set(map(id, more)) <= here}
            candidates[phase] = alive[phase]
    return [(phase, rank, here) for rank in range(len(ranks)) for phase, here in reversed(candidates.items())]


def _is_something(value: Quantity) -> bool:
    return is_array(value) or bool(value)


def _mark(item: Item, rank: int, alive: bool) -> None:
    """Set the share at the peak on an item and its parts, for a peak that no array moves."""
    item.at_peak = item.amounts[rank] if alive else 0
    for part in item.items:
        _mark(part, rank, alive)


def find_peak(items: Sequence[Item], ranks: Sequence[str], phases: Sequence[str]) -> Peak:
    """Find the peak of some items and set each item's share in it.

    Parameters
    ----------
    items : sequence of Item
        All items, of any place; only those on the device count.
    ranks, phases : sequence of str
        Names of the rank classes and of the phases, in order.

    Returns
    -------
    Peak
        Phase, rank, total and range. The items' ``bytes_at_peak`` add up to the total.

    Examples
    --------
    Weights of 10 bytes live all the time, a buffer of 5 while loading, a cache of 7 later:

    >>> weights = Item("weights", [10])
    >>> buffer = Item("buffer", [5], phases=["load"])
    >>> cache = Item("cache", [7], phases=["decode"])
    >>> peak = find_peak([weights, buffer, cache], ["all"], ["load", "decode"])
    >>> peak.phase, peak.total, cache.bytes_at_peak, buffer.bytes_at_peak
    ('decode', 17, 7, 0)
    """
    moments = _moments(items, ranks, phases)
    totals = [add_up(item.amounts[rank] for item in alive) for _, rank, alive in moments]
    low = _largest([add_up(item.low[rank] for item in alive) for _, rank, alive in moments])
    high = _largest([add_up(item.high[rank] for item in alive) for _, rank, alive in moments])
    if len(moments) > 1 and any(is_array(total) for total in totals):
        return _array_peak(items, ranks, moments, totals, low, high)
    best = 0
    for index in range(1, len(totals)):
        # Ties go to the later phase: a cache is full only at the last token.
        later_phase = moments[index][1] == moments[best][1]
        if totals[index] > totals[best] or (later_phase and totals[index] == totals[best]):
            best = index
    phase, rank, alive = moments[best]
    for item in items:
        _mark(item, rank, item.where != "device" or item in alive)
    return Peak(phase, ranks[rank], totals[best], low, high)


def _array_peak(
    items: Sequence[Item],
    ranks: Sequence[str],
    moments: Sequence[tuple[str, int, list[Item]]],
    totals: Sequence[Quantity],
    low: Quantity,
    high: Quantity,
) -> Peak:
    """The peak where it may sit at another phase or rank for each element of an array."""
    import numpy as np

    stacked = np.stack(np.broadcast_arrays(*totals))
    # argmax takes the first of equals; reversed order gives ties to the later phase.
    best = len(moments) - 1 - stacked[::-1].argmax(axis=0)
    total = stacked.max(axis=0)
    if np.all(best == best.flat[0]):
        phase, rank, alive = moments[int(best.flat[0])]
        for item in items:
            _mark(item, rank, item.where != "device" or item in alive)
        return Peak(phase, ranks[rank], total, low, high)

    def share(item: Item, pick: Callable[[int], Quantity]) -> None:
        picks = np.stack(np.broadcast_arrays(*[pick(m) for m in range(len(moments))], best)[:-1])
        item.at_peak = np.take_along_axis(picks, best[None], axis=0)[0]

    def mark(item: Item, top: Item) -> None:
        def pick(moment: int) -> Quantity:
            _, rank, alive = moments[moment]
            return item.amounts[rank] if top.where != "device" or top in alive else 0

        share(item, pick)
        for part in item.items:
            mark(part, top)

    for item in items:
        mark(item, item)
    names = [(phase, ranks[rank]) for phase, rank, _ in moments]
    chosen = [names[index] for index in best.ravel().tolist()]
    return Peak([phase for phase, _ in chosen], [rank for _, rank in chosen], total, low, high)


class Moment:
    """One point of a timeline: what each item holds there.

    Parameters
    ----------
    phase, where : str
        Its phase, and what happens in it: ``backward`` of ``layer 3``.
    held : mapping
        Bytes of each item by name; what is not named holds nothing. [B]
    """

    __slots__ = ("held", "phase", "where")

    def __init__(self, phase: str, where: str, held: Mapping[str, Quantity]) -> None:
        self.phase, self.where, self.held = phase, where, dict(held)

    @property
    def total(self) -> Quantity:
        """Bytes on the device. [B]"""
        whole = 0
        for value in self.held.values():
            if type(value) is not int:
                return add_up(self.held.values())
            whole += value
        return whole

    def __repr__(self) -> str:
        return f"<{self.phase}, {self.where}: {self.total} bytes>"


def timeline_peak(moments: Sequence[Moment]) -> tuple[Any, Any, dict[str, Quantity]]:
    """Phase and place of the moment that holds most, and what each item holds then.

    Parameters
    ----------
    moments : sequence of Moment
        In order; of equal ones the first is named.

    Returns
    -------
    tuple
        Phase, place (lists where arrays move the peak) and bytes by item. [B]

    Examples
    --------
    A gradient grows while activations are freed; the peak lies between, below the sum of maxima:

    >>> steps = [(8, 0), (5, 4), (0, 6)]
    >>> moments = [Moment("backward", "", {"activations": a, "gradients": g}) for a, g in steps]
    >>> timeline_peak(moments)
    ('backward', '', {'activations': 5, 'gradients': 4})
    """
    totals = [moment.total for moment in moments]
    if not any(map(is_array, totals)):
        best = max(range(len(totals)), key=lambda index: totals[index])
        return moments[best].phase, moments[best].where, dict(moments[best].held)
    import numpy as np

    most, where = np.asarray(totals[0]), np.zeros(1, dtype=np.int64)
    for index, total in enumerate(totals[1:], 1):  # one moment at a time: all at once may not fit
        more = total > most
        most, where = np.maximum(most, total), np.where(more, index, where)
    where = np.broadcast_to(where, most.shape)
    shares: dict[str, Quantity] = {}
    chosen = np.unique(where).tolist()
    for name in dict.fromkeys(name for moment in moments for name in moment.held):
        share = moments[chosen[0]].held.get(name, 0)
        for index in chosen[1:]:
            share = np.where(where == index, moments[index].held.get(name, 0), share)
        shares[name] = share
    if len(chosen) == 1:
        return moments[chosen[0]].phase, moments[chosen[0]].where, shares
    names = [(moments[index].phase, moments[index].where) for index in where.ravel().tolist()]
    return [phase for phase, _ in names], [place for _, place in names], shares
