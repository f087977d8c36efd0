"""Stages of a pipeline: which layers each holds, and which micro-batches are under way at once."""

from __future__ import annotations

from collections.abc import Iterator
from operator import ge

from llmcalc.memory.training.parallel.mesh import Mesh

Chunk = tuple[range, bool, bool]
"""Layers of a chunk, and whether embedding and head are with them."""

Event = tuple[str, int, tuple[int, ...]]
"""``forward`` or ``backward``, the chunk, and micro-batches of each chunk that wait meanwhile."""


class Stage:
    """One class of ranks: those of a pipeline stage hold the same.

    Attributes
    ----------
    index, of : int
        Which stage, and of how many. [-]
    chunks : list of Chunk
        What it runs, in the order of the model.
    ranks : int
        GPUs of this class. [-]
    """

    __slots__ = ("chunks", "index", "of", "ranks")

    def __init__(self, index: int, of: int, chunks: list[Chunk], ranks: int) -> None:
        self.index, self.of, self.chunks, self.ranks = index, of, chunks, ranks

    @property
    def name(self) -> str:
        """How it is named in a report."""
        if self.of == 1:
            return "all"
        place = {0: ", first", self.of - 1: ", last"}.get(self.index, "")
        return f"stage {self.index + 1} of {self.of}{place}"

    @property
    def layers(self) -> int:
        """Layers on it. [-]"""
        return sum(len(layers) for layers, _, _ in self.chunks)

    @property
    def is_first(self) -> bool:
        """Whether the embedding is on it."""
        return any(embedding for _, embedding, _ in self.chunks)

    @property
    def is_last(self) -> bool:
        """Whether the head is on it."""
        return any(head for _, _, head in self.chunks)


def stages(mesh: Mesh, layers: int) -> list[Stage]:
    """The stages of a model: layers in equal shares, the first stages one more where they don't divide.

    Examples
    --------
    >>> [stage.chunks[0][0] for stage in stages(Mesh(pp=4), 30)]
    [range(0, 8), range(8, 16), range(16, 23), range(23, 30)]
    """
    number = mesh.pp * mesh.vpp
    counts = list(mesh.stage_layers)
    if not counts:
        base, extra = divmod(layers, number)
        counts = [base + (1 if place < extra else 0) for place in range(number)]
    spans, start = [], 0
    for count in counts:
        spans.append(range(start, start + count))
        start += count
    found = []
    for stage in range(mesh.pp):
        places = range(stage, number, mesh.pp)
        chunks = [(spans[place], place == 0, place == number - 1) for place in places]
        found.append(Stage(stage, mesh.pp, chunks, mesh.gpus // mesh.pp))
    return found


def events(mesh: Mesh, stage: int) -> list[Event]:
    """Every different situation of a stage in one step: what runs, and what waits for its backward pass.

    Notes
    -----
    1F1B (Narayanan et al. 2021): a stage runs as many forward passes as there are stages after it, then one
    backward for each forward. Interleaved, chunks take turns in groups of as many micro-batches as stages,
    and twice as many forward passes come first. GPipe runs all forward passes before the first backward.

    Examples
    --------
    The first of four stages holds four micro-batches, three of which wait:

    >>> max(waiting for kind, _, (waiting,) in events(Mesh(pp=4, micro_batches=8), 0) if kind == "backward")
    3
    """
    waiting = [0] * mesh.vpp
    seen: dict[Event, None] = {}
    for kind, chunk in passes(mesh, stage):
        if kind == "backward":
            waiting[chunk] -= 1
        seen[kind, chunk, tuple(waiting)] = None
        if kind == "forward":
            waiting[chunk] += 1
    return list(seen)


def passes(mesh: Mesh, stage: int) -> Iterator[tuple[str, int]]:
    """Passes of one stage in the order of the schedule, by chunk."""
    total = mesh.micro_batches * mesh.vpp
    if mesh.schedule == "gpipe":
        first = total
    elif mesh.vpp == 1:
        first = min(mesh.pp - stage - 1, total)
    else:
        first = min(2 * (mesh.pp - stage - 1) + (mesh.vpp - 1) * mesh.pp, total)
    group = mesh.pp * mesh.vpp
    chunk_of = [place % group // mesh.pp for place in range(total)] if mesh.vpp > 1 else [0] * total
    for place in range(first):
        yield "forward", chunk_of[place]
    for place in range(first, total):
        yield "forward", chunk_of[place]
        yield "backward", mesh.vpp - 1 - chunk_of[place - first]
    for place in range(total - first, total):
        yield "backward", mesh.vpp - 1 - chunk_of[place]


def steady(mesh: Mesh) -> int:
    """Micro-batches from which on more of them bring no new situation; GPipe has no such number. [-]

    Examples
    --------
    >>> steady(Mesh(pp=4, micro_batches=512)), steady(Mesh(pp=4, micro_batches=512, schedule="gpipe"))
    (4, 512)
    """
    if mesh.schedule == "gpipe":
        return mesh.micro_batches
    # Interleaved, 2 (p - 1) + (v - 1) p passes come first, and turns repeat after p v.
    return min(mesh.micro_batches, mesh.pp if mesh.vpp == 1 else 4 * mesh.pp)


def heaviest(mesh: Mesh, stage: int) -> list[tuple[str, int, list[tuple[int, ...]]]]:
    """Of all situations of a stage those that no other one exceeds in every chunk.

    Returns
    -------
    list of (str, int, list of tuple of int)
        What runs, of which chunk, and micro-batches of each chunk that may wait meanwhile.

    Examples
    --------
    >>> heaviest(Mesh(pp=4, micro_batches=8), 1)
    [('forward', 0, [(2,)]), ('backward', 0, [(2,)])]
    """
    few = Mesh(mesh.tp, mesh.pp, vpp=mesh.vpp, schedule=mesh.schedule, micro_batches=steady(mesh))
    found: dict[tuple[str, int], list[tuple[int, ...]]] = {}
    for kind, chunk, waiting in events(few, stage):
        exceed(found.setdefault((kind, chunk), []), waiting)
    return [(kind, chunk, most) for (kind, chunk), most in found.items()]


def exceed(known: list[tuple[int, ...]], numbers: tuple[int, ...]) -> None:
    """Add numbers to those of which none exceeds another one in every place, and drop what they exceed."""
    if any(all(map(ge, one, numbers)) for one in known):
        return
    known[:] = [one for one in known if not all(map(ge, numbers, one))] + [numbers]
