"""A step played through PyTorch's allocator: what is reserved because free memory lies in pieces."""

from __future__ import annotations

from typing import Any

from llmcalc.memory.training.allocator import Pool
from llmcalc.memory.training.ledger import FORWARD, FREED, GRADIENT, HELD
from llmcalc.memory.training.stretches import Model, Stretch

STEPS = 2
"""Steps until the same is reserved in each: the first one brings states of the optimizer. [-]"""


class Record:
    """What one stretch takes and gives back, forward and backward.

    Attributes
    ----------
    forward, late, backward : list of (int, int)
        Number of a tensor, and its bytes or that it is freed; `late` at the end of all layers' forward. [B]
    gradients : set of int
        Which are gradients of parameters.
    entry, leaves, arrives, goes : int or None
        What it reads and what it makes, and the same of gradients.
    """

    __slots__ = ("arrives", "backward", "entry", "forward", "goes", "gradients", "late", "leaves")

    def __init__(self, stretch: Stretch, width: int, first: bool, last: bool) -> None:
        self.forward: list[tuple[int, int]] = []
        self.late: list[tuple[int, int]] = []
        self.backward: list[tuple[int, int]] = []
        self.gradients: set[int] = set()
        target, sizes, names = self.forward, dict[int, int](), dict[int, int]()
        for key, what in stretch.ledger.log or ():
            if what == FORWARD:
                target = self.late
            elif what == HELD:
                target = self.backward
            elif what == GRADIENT:
                self.gradients.add(names[key])
            elif what == FREED:
                if key in names:
                    target.append((names.pop(key), FREED))
            else:
                number = len(sizes)
                names[key], sizes[number] = number, int(what)
                target.append((number, int(what)))
        self.entry = None if first else next((n for n, what in self.forward if what >= 0), None)
        self.arrives = None if last else next((n for n, what in self.backward if what >= 0), None)
        self.leaves = None if last else _last_freed(self.forward, sizes, width, set())
        self.goes = None if first else _last_freed(self.backward, sizes, width, self.gradients)


def _last_freed(
    events: list[tuple[int, int]], sizes: dict[int, int], width: int, but: set[int]
) -> int | None:
    """The last tensor of a size that is freed: the next stretch reads it."""
    for number, what in reversed(events):
        if what == FREED and sizes[number] == width and number not in but:
            return number
    return None


def replay(model: Model, sharding: Any, keeps: bool, expandable: bool = False) -> int:
    """Bytes that the main stream's pool has reserved after some steps.

    Parameters
    ----------
    model : Model
        Stretches that have run with logs.
    sharding : Sharding
        What it takes at the beginning, around gradients and at the step.
    keeps : bool
        Whether gradients of parameters stay until the step.
    expandable : bool
        Whether segments grow.
    """
    sequence: list[tuple[Any, Stretch]] = [
        ("embedding", model.stretch_of_embedding), *model.order, ("head", model.stretch_of_head),
    ]  # fmt: skip
    width = int(sequence[1][1].entry)
    records: dict[int, Record] = {}
    for place, (_, stretch) in enumerate(sequence):
        if id(stretch) not in records:
            last = place == len(sequence) - 1
            records[id(stretch)] = Record(stretch, width, place == 0, last)
    pool = Pool(expandable)
    sharding.at_load(pool)
    shared = [(key, int(what)) for key, what in model.books.log or () if what >= 0]
    for step in range(STEPS):
        for key, what in shared:
            pool.take(("shared", key), what)
        _forward(pool, sequence, records)
        _backward(pool, sequence, records, sharding, keeps)
        for key, _ in shared:
            pool.drop(("shared", key))
        sharding.at_step(pool, step == 0)
        for name in [name for name in pool.named if isinstance(name, tuple)]:
            pool.drop(name)
    return pool.reserved


def _forward(pool: Pool, sequence: list[tuple[Any, Stretch]], records: dict[int, Record]) -> None:
    for place, (where, stretch) in enumerate(sequence):
        record = records[id(stretch)]
        _play(pool, where, record.forward, record.entry, record.leaves)
        if record.leaves is not None and place + 1 < len(sequence):
            after, entry = sequence[place + 1][0], records[id(sequence[place + 1][1])].entry
            pool.rename((where, record.leaves), (after, entry))
    for where, stretch in sequence:
        _play(pool, where, records[id(stretch)].late, None, None)


def _backward(
    pool: Pool, sequence: list[tuple[Any, Stretch]], records: dict[int, Record], sharding: Any, keeps: bool
) -> None:
    for place in range(len(sequence) - 1, -1, -1):
        where, stretch = sequence[place]
        record = records[id(stretch)]
        _play(pool, where, record.backward, record.arrives, record.goes, record.gradients if keeps else ())
        if record.goes is not None:
            before = sequence[place - 1][0]
            pool.rename((where, record.goes), (before, records[id(sequence[place - 1][1])].arrives))
        if where == "head":
            sharding.at_gradients(pool)
    sharding.at_end(pool)


def _play(
    pool: Pool, where: Any, events: list[tuple[int, int]], alias: int | None, stays: int | None,
    kept: Any = (),
) -> None:  # fmt: skip
    """Take and give back; what came from the stretch before is there, what goes to the next one stays."""
    for number, what in events:
        name = (where, number)
        if what == FREED:
            if number != stays and number not in kept:
                pool.drop(name)
        elif number != alias or name not in pool.named:
            pool.take(name, what)
