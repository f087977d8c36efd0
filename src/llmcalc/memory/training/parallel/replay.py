"""Steps played through PyTorch's allocator: what is reserved, tensor by tensor and stream by stream."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

from llmcalc.memory.training.allocator import Card, Pool
from llmcalc.memory.training.ledger import FREED
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.memory.training.parallel.pipeline import Stage, passes
from llmcalc.memory.training.stretches import Model, Stretch

STEPS = 2
"""Steps until nothing new is reserved: in the second one the optimizer's states are there. [-]"""


class Player:
    """What a way of sharing takes and gives between the stretches of a step; by itself nothing.

    Parameters
    ----------
    main : Pool
        Of the stream that computes.

    """

    def __init__(self, main: Pool) -> None:
        self.main = main

    def begin(self) -> None:
        """A step begins: gradients of the one before are gone."""

    def before_forward(self, chunk: int, name: Any) -> None:
        """A stretch of a chunk is about to run forward."""

    def after_forward(self, chunk: int, name: Any) -> None:
        """It has run."""

    def end_forward(self, chunk: int) -> None:
        """A chunk has run forward, its loss aside."""

    def before_backward(self, chunk: int, name: Any) -> None:
        """A stretch is about to run backward."""

    def after_backward(self, chunk: int, name: Any, keys: list[Any], last: bool) -> None:
        """It has run; `keys` are what it has left: gradients. `last`: of the step's last micro-batch."""

    def end_backward(self, chunk: int, last: bool) -> None:
        """A chunk has run backward."""


def _shorter(mesh: Mesh) -> Mesh:
    """The same with as many micro-batches as it takes until what waits is the same again."""
    enough = 2 * mesh.pp
    if mesh.schedule == "gpipe" or mesh.micro_batches <= enough:
        return mesh
    made = copy(mesh)
    made.micro_batches = enough
    return made


class Replay:
    """Some steps of a class of ranks.

    Parameters
    ----------
    model : Model
        Whose stretches have run, with logs.
    mesh : Mesh
        The layout.
    stage : Stage
        Which layers.
    room : int, optional
        Of the card, for tensors. [B]
    expandable : bool
        Whether segments grow.
    """

    def __init__(
        self, model: Model, mesh: Mesh, stage: Stage, room: int | None = None, expandable: bool = False
    ) -> None:
        self.model, self.mesh, self.stage = model, _shorter(mesh), stage
        self.left: dict[Any, dict[int, None]] = {}
        self.card = Card(room)
        self.main = Pool(expandable, self.card)

    def reserved(
        self, player: Player, weights: Iterable[int], states: Iterable[int], step: Iterable[int]
    ) -> int:
        """What all streams reserve at most. [B]

        Parameters
        ----------
        player : Player
            What is taken and given between stretches, over `main`.
        weights, states, step : iterable of int
            Of each tensor: what is kept of it, the optimizer's states, what its step takes meanwhile. [B]
        """
        for place, bytes_ in enumerate(weights):
            self.main.take(("weights", place), bytes_)
        states, step = list(states), list(step)
        for number in range(STEPS):
            player.begin()
            self._step(player)
            for place, bytes_ in enumerate(states if not number else ()):
                self.main.take(("states", place), bytes_)
            for place, bytes_ in enumerate(step):
                self.main.take(("step", place), bytes_)
            for place in range(len(step)):
                self.main.drop(("step", place))
        return self.card.most

    def _step(self, player: Player) -> None:
        """All micro-batches of a step in the order of the schedule."""
        waiting: dict[int, list[int]] = {}
        total = self.mesh.micro_batches
        done: dict[int, int] = {}
        begun = 0
        for kind, chunk in passes(self.mesh, self.stage.index):
            if kind == "forward":
                begun += 1
                waiting.setdefault(chunk, []).append(begun)
                self._forward(player, chunk, begun)
            else:
                done[chunk] = done.get(chunk, 0) + 1
                self._backward(player, chunk, waiting[chunk].pop(0), done[chunk] == total)

    def _stretches(self, chunk: int) -> list[tuple[Any, Stretch]]:
        layers, embedding, head = self.stage.chunks[chunk]
        found: list[tuple[Any, Stretch]] = []
        if embedding:
            found.append(("embedding", self.model.stretch_of_embedding))
        found += [pair for pair in self.model.order if pair[0] in layers]
        if head:
            found.append(("head", self.model.stretch_of_head))
        return found

    def _forward(self, player: Player, chunk: int, batch: int) -> None:
        for name, stretch in self._stretches(chunk):
            player.before_forward(chunk, name)
            log = (stretch.ledger.log or [])[: stretch.turn]
            self.left[batch, name] = self._play(log, (batch, name), {})
            player.after_forward(chunk, name)
        player.end_forward(chunk)

    def _backward(self, player: Player, chunk: int, batch: int, last: bool) -> None:
        for name, stretch in reversed(self._stretches(chunk)):
            player.before_backward(chunk, name)
            log = (stretch.ledger.log or [])[stretch.turn : stretch.end]
            before = self.left.pop((batch, name))
            left = self._play(log, (batch, name), before)
            for mark in before:  # what the output object has kept
                self.main.drop(((batch, name), mark))
            keys = [((batch, name), mark) for mark in left]
            player.after_backward(chunk, name, keys, last)
        player.end_backward(chunk, last)

    def _play(
        self, log: list[tuple[int, Any]], key: tuple[int, Any], before: dict[int, None]
    ) -> dict[int, None]:
        """Take and give as a stretch has done; what it has made and left. What was there `before` goes."""
        left: dict[int, None] = {}
        for mark, what in log:
            if what == FREED:
                self.main.drop((key, mark))
                left.pop(mark, None)
                before.pop(mark, None)
            elif what >= 0:
                self.main.take((key, mark), what)
                left[mark] = None
        return left
