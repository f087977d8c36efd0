"""FSDP2 through the allocator: gathers and sums of gradients have streams, and so pools, of their own."""

from __future__ import annotations

from typing import Any

from llmcalc.memory.training.allocator import Pool
from llmcalc.memory.training.parallel.replay import Player
from llmcalc.memory.training.parallel.units import Unit


class UnitsPlayer(Player):
    """FSDP2's units.

    Parameters
    ----------
    main : Pool
        Of the stream that computes.
    sharding : FullyShard
        Units in the order in which they run.

    Notes
    -----
    Unsharded parameters are tensors of their own on the computing stream; buffers to gather into, and casts
    that go there, come from the gathering stream, sums of gradients from the summing one.
    """

    def __init__(self, main: Pool, sharding: Any) -> None:
        super().__init__(main)
        self.sharding, self.policy = sharding, sharding.policy
        self.gather, self.sums = main.another(), main.another()
        self.open: set[int] = set()
        self.buffer: Any = None  # of the unit that was gathered last
        self.input: Any = None  # of the sum that was made last
        self.left: dict[int, list[Any]] = {}

    def begin(self) -> None:
        """Sums of the step before are let go."""
        for key in list(self.sums.named):
            self.sums.drop(key)

    # -- units -----------------------------------------------------------------------------------

    def _unit(self, chunk: int, name: Any) -> Unit | None:
        """The unit of a stretch, if it is not the root."""
        units = self.sharding.units
        unit: Unit = units.layers[name] if isinstance(name, int) else getattr(units, name)
        return None if unit is units.root else unit

    def _fill(self, unit: Unit) -> None:
        """A unit's buffer is filled on the gathering stream."""
        key = id(unit)
        if key in self.open or ("buffer", key) in self.gather.named:
            return
        self.gather.take(("cast", key), int(unit.cast))
        self.gather.take(("buffer", key), int(unit.gathered))
        self.gather.drop(("cast", key))

    def _open(self, unit: Unit, keeps: bool) -> None:
        """A unit is copied out of its buffer, which waits for the next one's where it `keeps`."""
        key = id(unit)
        if key in self.open:
            return
        self.open.add(key)
        for place, bytes_ in enumerate(unit.tensors):
            self.main.take((key, place), bytes_)
        if self.buffer is not None:
            self.gather.drop(self.buffer)
        self.buffer = ("buffer", key) if keeps else None
        if not keeps:
            self.gather.drop(("buffer", key))

    def _close(self, unit: Unit) -> None:
        key = id(unit)
        self.open.discard(key)
        for place in range(len(unit.tensors)):
            self.main.drop((key, place))

    # -- forward ---------------------------------------------------------------------------------

    def before_forward(self, chunk: int, name: Any) -> None:
        """Root and unit are gathered."""
        for unit in (self.sharding.units.root, self._unit(chunk, name)):
            if unit is not None:
                self._fill(unit)
                self._open(unit, True)

    def after_forward(self, chunk: int, name: Any) -> None:
        """The unit is let go."""
        unit = self._unit(chunk, name)
        if unit is not None and unit.reshards:
            self._close(unit)

    def end_forward(self, chunk: int) -> None:
        """The last buffer goes."""
        if self.buffer is not None:
            self.gather.drop(self.buffer)
            self.buffer = None

    # -- backward --------------------------------------------------------------------------------

    def before_backward(self, chunk: int, name: Any) -> None:
        """The unit is gathered, and the next one's buffer filled."""
        unit = self._unit(chunk, name)
        if unit is None:
            return
        self._fill(unit)
        self._open(unit, False)
        order = self.sharding.chunks[chunk]
        place = order.index(unit)
        if place > 0 and order[place - 1].reshards and self.policy.version == 2:
            self._fill(order[place - 1])

    def after_backward(self, chunk: int, name: Any, keys: list[Any], last: bool) -> None:
        """Gradients are laid side by side and summed; the unit is let go."""
        unit = self._unit(chunk, name)
        if unit is None:
            self.left.setdefault(chunk, []).extend(keys)
            return
        self._sum(unit, keys, last)

    def end_backward(self, chunk: int, last: bool) -> None:
        """The root's turn."""
        self._sum(self.sharding.units.root, self.left.pop(chunk, []), last)
        if self.input is not None:
            self.main.drop(self.input)
            self.input = None

    def _sum(self, unit: Unit, keys: list[Any], last: bool) -> None:
        key = id(unit)
        whole = self.policy.whole_gradients and self.sharding.repeats
        if not whole or last:
            self._close(unit)
        if whole:
            self._add_whole(unit, keys)
            if not last:
                return
        if self.input is not None:
            self.main.drop(self.input)
        self.input = ("input", key)
        self.main.take(self.input, int(unit.scattered))
        for one in keys:
            self.main.drop(one)
        for place in range(len(unit.tensors)):
            self.main.drop(("whole", key, place))
        self._keep(unit)

    def _keep(self, unit: Unit) -> None:
        """The rank's part of a sum is kept, or added to that of earlier micro-batches."""
        key = id(unit)
        again = ("sum", key) in self.sums.named
        part = ("wide" if unit.narrows else "new" if again else "sum", key)
        self.sums.take(part, int(unit.out))
        if unit.narrows:
            kept = ("new" if again else "sum", key)
            self.sums.take(kept, int(unit.shard))
            if not self.sharding.kept:
                self.sums.drop(part)
        self.sums.drop(("new", key))

    def _add_whole(self, unit: Unit, keys: list[Any]) -> None:
        """Gradients are added to those of earlier micro-batches."""
        key = id(unit)
        if ("whole", key, 0) not in self.main.named and unit.own:
            for place, bytes_ in enumerate(unit.tensors):
                self.main.take(("whole", key, place), int(bytes_ * unit.whole // max(unit.gathered, 1)))
        for one in keys:
            self.main.drop(one)
