"""ZeRO-3's coordinator on paper: which weights are whole when, and when gradients are summed.

DeepSpeed remembers the order in which modules run. Before each module it fetches the module's weights and
asks for those that come next, until as many are whole as it may hold; after it, it lets go what is not
needed again soon.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from llmcalc.memory.training.parallel.zero_settings import ZeroSettings

Weight = tuple[str, int]
"""Name and elements."""

Place = tuple[str, int | None]
"""Phase and layer, as of a moment; of embedding and head the layer is None."""

Step = tuple[Place, Sequence[Weight], bool]
"""A module that runs: where, with which weights of its own, and whether it lets go of them afterwards."""

EMBEDDING, HEAD = -1, None


class Fetches:
    """What is whole at each place of the step.

    Parameters
    ----------
    steps : sequence of Step
        Modules in the order in which they run.
    settings : ZeroSettings
        How much is fetched ahead, and kept.
    single : bool
        Whether tensors come one by one, without a buffer for several.

    Attributes
    ----------
    most : dict
        Elements of whole weights and of buffers that they came in, at most, by phase and layer. [-]
    events : list of (object, int)
        What is taken, and with how many elements, or given back (0), in order. [-]
    """

    __slots__ = ("events", "most")

    def __init__(self, steps: Sequence[Step], settings: ZeroSettings, single: bool = False) -> None:
        self.most: dict[Place, int] = {}
        self.events: list[tuple[object, int]] = []
        _Coordinator(steps, settings, self, single).run()


class _Coordinator:
    def __init__(self, steps: Sequence[Step], settings: ZeroSettings, found: Fetches, single: bool) -> None:
        self.single = single
        self.steps, self.settings, self.most, self.events = steps, settings, found.most, found.events
        self.size = {name: size for _, weights, _ in steps for name, size in weights}
        # Where each weight is used, and how many elements have been traversed before each module.
        self.uses: dict[str, list[int]] = {}
        self.before = [0]
        self.queue: list[tuple[str, int]] = []
        for place, (_, weights, _) in enumerate(steps):
            for name, _ in weights:
                self.uses.setdefault(name, []).append(place)
                self.queue.append((name, place))
            self.before.append(self.before[-1] + sum(size for _, size in weights))
        self.next = 0
        self.available: dict[str, int] = {}  # whole or under way, and the batch it came in
        self.live = 0
        self.seen: dict[str, int] = {}
        self.flat: dict[int, int] = {}  # elements of each batch's buffer, while one of its weights waits
        self.waiting: dict[int, dict[str, None]] = {}  # in order
        self.made: dict[str, int] = {}  # elements of weights copied out of such a buffer
        self.batches = 0

    def run(self) -> None:
        for place, (where, weights, lets_go) in enumerate(self.steps):
            self._fetch(place, [name for name, _ in weights])
            held = sum(self.flat.values()) + sum(self.made.values())
            self.most[where] = max(self.most.get(where, 0), held)
            if lets_go:
                self._release(place, [name for name, _ in weights])

    def _gather(self, names: list[str]) -> None:
        names = [name for name in names if name not in self.available]
        if not names:
            return
        self.batches += 1
        for name in names:
            self.available[name] = self.batches
            self.live += self.size[name]
        self.flat[self.batches] = sum(self.size[name] for name in names)
        self.waiting[self.batches] = dict.fromkeys(names)
        self.events.append((names[0] if len(names) == 1 else self.batches, self.flat[self.batches]))

    def _wait(self, name: str) -> None:
        """A weight is taken out of its batch; a batch of one is the weight itself."""
        batch = self.available[name]
        waiting = self.waiting.get(batch)
        if waiting is None or name not in waiting:
            return
        single = self.flat[batch] == self.size[name]
        if not single and not any(other in self.made for other in waiting):
            for other in waiting:  # the first that is waited for copies all of them out
                self.made[other] = self.size[other]
                self.events.append((other, self.size[other]))
        waiting.pop(name, None)
        if single:
            self.made[name] = self.size[name]
        if not waiting:
            if not single:
                self.events.append((batch, 0))
            del self.flat[batch], self.waiting[batch]

    def _fetch(self, place: int, names: list[str]) -> None:
        for batch in [[name] for name in names] if self.single else [names]:
            self._gather(batch)
        for name in names:
            self._wait(name)
        fresh = {name for name in names if self.seen.get(name, -1) < place}
        while fresh and self.next < len(self.queue):
            name, used = self.queue[self.next]
            self.next += 1
            self.seen[name] = max(used, self.seen.get(name, -1))
            fresh.discard(name)
        room = min(self.settings.max_live - self.live, self.settings.prefetch_bucket)
        wanted: list[str] = []
        number = 0
        while self.next < len(self.queue) and number < room:
            name, used = self.queue[self.next]
            self.next += 1
            self.seen[name] = max(used, self.seen.get(name, -1))
            if name not in self.available and name not in wanted:
                wanted.append(name)
                number += self.size[name]
        for batch in [[name] for name in wanted] if self.single else [wanted]:
            self._gather(batch)

    def _release(self, place: int, names: list[str]) -> None:
        limit = self.before[place + 1] + self.settings.max_reuse
        for name in names:
            if self.seen.get(name, -1) > place:
                continue
            uses = self.uses[name]
            at = bisect_right(uses, place)
            if at < len(uses) and self.before[uses[at]] < limit:
                continue
            if name in self.available:
                del self.available[name]
                self.live -= self.size[name]
                self.made.pop(name, None)
                self.events.append((name, 0))


def run_order(
    embedding: Sequence[Sequence[Weight]],
    layers: Sequence[Sequence[Sequence[Weight]]],
    head: Sequence[Sequence[Weight]],
    again: bool,
    outside: Sequence[Weight] = (),
) -> list[Step]:
    """Modules in the order in which a step runs them, forward and backward.

    Parameters
    ----------
    embedding, layers, head : sequence
        Modules, each as its weights.
    again : bool
        Whether each layer runs forward once more before it goes backward.
    outside : sequence of Weight
        Weights that the model itself uses beside its modules, as a loss that multiplies with the head does:
        fetched first, and kept to the end.
    """
    steps: list[Step] = []

    def forward(modules: Iterable[Sequence[Weight]], where: Place) -> Iterator[Step]:
        yield where, (), True  # the module that holds them
        for weights in modules:
            yield where, weights, True

    if outside:
        steps.append((("forward", EMBEDDING), outside, False))
    steps += forward(embedding, ("forward", EMBEDDING))
    for index, layer in enumerate(layers):
        steps += forward(layer, ("forward", index))
    steps += forward(head, ("forward", HEAD))
    if outside:
        steps.append((("loss", HEAD), outside, False))
    steps += [(("loss", HEAD), weights, True) for weights in reversed(head)]
    for index in range(len(layers) - 1, -1, -1):
        where: Place = ("backward", index)
        if again:
            steps += forward(layers[index], where)
        steps.append((where, (), True))
        steps += [(where, weights, True) for weights in reversed(layers[index])]
    steps += [(("backward", EMBEDDING), weights, True) for weights in reversed(embedding)]
    return steps


def sums(order: Iterable[tuple[Place, int]], bucket: int, copies_single: bool) -> dict[Place, int]:
    """Elements that a sum of gradients copies together, at most, at each place.

    Parameters
    ----------
    order : iterable of (Place, int)
        Gradients as they are made: where, and their elements.
    bucket : int
        Elements after which they are summed. [-]
    copies_single : bool
        Whether a gradient that is alone in its bucket is copied too.

    Examples
    --------
    Two of three layers' gradients fill a bucket, so that the third one's first sets the sum off:

    >>> sums([(("backward", 2), 4), (("backward", 1), 4), (("backward", 0), 4)], 9, False)
    {('backward', 0): 8}
    """
    found: dict[Place, int] = {}
    held, number = 0, 0
    for where, elements in order:
        if held and held + elements > bucket:
            if number > 1 or copies_single:
                found[where] = max(found.get(where, 0), held)
            held, number = 0, 0
        held, number = held + elements, number + 1
        last = where
    if number > 1 or (held and copies_single):  # what is left goes when the backward pass is over
        found[last] = max(found.get(last, 0), held)
    return found


def widest_overlap(sizes: Sequence[int], ranks: int) -> int:
    """Elements of all tensors that reach into one rank's part of them laid end to end, at most. [-]

    Parameters
    ----------
    sizes : sequence of int
        Elements of each tensor, in order. [-]
    ranks : int
        Equal parts. [-]

    Examples
    --------
    The second of two ranks holds the end of the first tensor and all of the second one:

    >>> widest_overlap([6, 2], 2)
    8
    """
    ends, total = [], 0
    for size in sizes:
        total += size
        ends.append(total)
    if not ends:
        return 0
    part, most = total / ranks, 0
    for rank in range(ranks):
        first = bisect_right(ends, rank * part)
        last = min(bisect_left(ends, (rank + 1) * part), len(ends) - 1)
        most = max(most, ends[last] - (ends[first - 1] if first else 0))
    return most
