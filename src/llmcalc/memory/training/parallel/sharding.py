"""How data-parallel ranks share weights, gradients and optimizer states, and what that adds to a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.estimate import add_up
from llmcalc.formula import Quantity, ceil_div, larger
from llmcalc.memory.training.model_states import States

Part = tuple[States, int]
"""States of a part of the model (experts, or all else), and how many ranks hold the same of it."""

Three = tuple[Quantity, Quantity, Quantity]
Event = tuple[str, str, Three, Three, Quantity]
"""Phase, place, what the trace holds (saved, logits, all else), what `Sharding.at` tells, and `idle`. [B]"""

KINDS = ("weights", "master", "gradients", "optimizer")


class Sharding:
    """States that every data-parallel rank holds whole; subclasses say what is shared and gathered.

    Attributes
    ----------
    name : str
        How it is called in a report.
    shared : tuple of str
        Of ``weights``, ``master``, ``gradients``, ``optimizer``: what is cut among the ranks.
    standing : dict
        Buffers that are there all the time, by what they are. [B]
    persistent : bool
        Whether gradients have a place of their own that is there all the time.
    own_gradients : bool
        Whether `at` tells gradients of earlier micro-batches too, wherever they lie.
    by_rows : bool
        Whether each tensor is cut along its first dimension, among `cut` ranks; `share` then gets such parts.
    has_pools : bool
        Whether `idle` is known.
    idle : int or ndarray
        What pools of other streams keep that nothing uses, at the moment told last. [B]
    """

    name = "none"
    shared: tuple[str, ...] = ()
    persistent = False
    own_gradients = False
    by_rows = False
    has_pools = False
    takes_gradients = False
    """Whether each gradient of a parameter leaves as soon as it is made."""
    replays = False
    """Whether what it takes is known in order, so that a step can be played through an allocator."""

    def __init__(self) -> None:
        self.standing: dict[str, Quantity] = {}
        self.idle: Quantity = 0

    def cut(self, replicas: int) -> int:
        """Ranks among which tensors are cut along their first dimension, of so many that hold the same."""
        return 1

    def begin(self, question: Any, model: Any, stage: Any, parts: Sequence[Part]) -> None:
        """Learn of one class of ranks before its step is looked at.

        Parameters
        ----------
        question : Question
            What was asked.
        model : Inventory
            One tensor rank's part of the model, all layers of it.
        stage : Stage
            Which of the layers.
        parts : sequence of Part
            States before they are shared.
        """

    def share(self, parts: Sequence[Part]) -> States:
        """The states of one rank, of all parts."""
        return combined(parts, self.shared)

    def at(self, moment: Any) -> tuple[Quantity, Quantity, Quantity]:
        """At a moment of the trace: gradients of parameters, what is gathered, and other buffers. [B]"""
        return moment.gradients, 0, 0

    def around(self, moment: Any) -> tuple[list[Event], list[Event]]:
        """Moments before and after a stretch of the trace, with what is there beside the states."""
        return [], []

    def buckets(self, gradients: Quantity) -> Quantity:
        """Of what is standing, copies of all gradients. [B]"""
        return 0

    @property
    def left_standing(self) -> Quantity:
        """Of what is standing, what is there at the optimizer's step. [B]"""
        return add_up(self.standing.values())

    def step(self, states: States) -> Quantity:
        """What the step holds besides, before or after the optimizer itself. [B]"""
        return 0

    def left(self, held: Quantity) -> Quantity:
        """Of all gradients that were made, those that are there at the step. [B]"""
        return held

    def settle(self, layout: Any, states: States) -> None:
        """Change where the parts of a step lie."""

    def at_load(self, pool: Any) -> None:
        """Take what is there from the beginning from a pool."""

    def at_gradients(self, pool: Any) -> None:
        """Take what comes with the first gradient."""

    def at_end(self, pool: Any) -> None:
        """Give back what goes when the backward pass is over."""

    def at_step(self, pool: Any, first: bool) -> None:
        """Take and give back what the step does; the first one makes the optimizer's states."""

    def beside(self) -> int:
        """What pools of other streams reserve. [B]"""
        return 0

    def host(self, states: States) -> dict[str, Quantity] | None:
        """What lies in the machine's own memory, for each rank; None is the usual. [B]"""
        return None


def combined(parts: Sequence[Part], shared: Sequence[str]) -> States:
    """Add up parts, each cut among its own number of ranks where it is shared."""
    made = States()
    for states, ranks in parts:
        by = {kind: ranks if kind in shared else 1 for kind in KINDS}
        for label, bytes_ in states.weights.items():
            made.weigh(label, ceil_div(bytes_, by["weights"]))
        made.master = made.master + ceil_div(states.master, by["master"])
        made.gradients = made.gradients + ceil_div(states.gradients, by["gradients"])
        for name, bytes_ in states.optimizer.items():
            made.optimizer[name] = made.optimizer.get(name, 0) + ceil_div(bytes_, by["optimizer"])
        made.paged = made.paged + ceil_div(states.paged, by["optimizer"])
        made.trained, made.total = made.trained + states.trained, made.total + states.total
        made.trained_bytes = made.trained_bytes + ceil_div(states.trained_bytes, by["optimizer"])
        made.saved = made.saved + states.saved
        made.largest = larger(made.largest, ceil_div(states.largest, by["optimizer"]))
        made.largest_gradient = larger(made.largest_gradient, states.largest_gradient)
        made.largest_frozen = max(made.largest_frozen, states.largest_frozen)
        made.element, made.small = states.element, made.small + states.small
    return made


class DistributedOptimizer(Sharding):
    """Megatron-Core's: fp32 gradients have a buffer on every rank; master weights and states are shared."""

    name = "distributed optimizer"
    persistent = True

    def __init__(self, on: bool = True) -> None:
        super().__init__()
        self.shared = ("master", "optimizer") if on else ()
        self.name = "distributed optimizer" if on else "replicated"

    def begin(self, question: Any, model: Any, stage: Any, parts: Sequence[Part]) -> None:
        """Buffers that Megatron keeps."""
        from llmcalc.memory.training.parallel.megatron import buffers

        self.standing = buffers(question, model, stage)
