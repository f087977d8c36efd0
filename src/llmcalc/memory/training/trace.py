"""What a training step holds, moment by moment: a fold over the inventory's ops with an implementation's recipe."""

from __future__ import annotations

from llmcalc.formula import Quantity
from llmcalc.memory.training.plan import Plan
from llmcalc.memory.training.stretches import Model, Stretch
from llmcalc.model.inventory import Inventory


class Moment:
    """What is alive at one moment, beside weights, masters and states of the optimizer.

    Attributes
    ----------
    phase : str
        ``forward``, ``loss`` or ``backward``.
    where : str
        ``embedding``, ``layer 3``, ``head``.
    activations : int or ndarray
        Saved for backward. [B]
    logits : int or ndarray
        Logits, their copies and gradients beyond what is saved. [B]
    gradients : int or ndarray
        Of parameters. [B]
    buffers : int or ndarray
        All else: gradients of activations, what operations make in between, cast copies, unpacked tiles. [B]
    """

    __slots__ = ("activations", "buffers", "gradients", "logits", "phase", "where")

    def __init__(
        self,
        phase: str,
        where: str,
        activations: Quantity,
        logits: Quantity,
        gradients: Quantity,
        buffers: Quantity,
    ) -> None:
        self.phase, self.where = phase, where
        self.activations, self.logits, self.gradients, self.buffers = activations, logits, gradients, buffers

    @property
    def total(self) -> Quantity:
        """All of it. [B]"""
        return self.activations + self.logits + self.gradients + self.buffers

    def __repr__(self) -> str:
        return f"<{self.phase} {self.where}: {self.total}>"


class Trace:
    """A step.

    Attributes
    ----------
    saved : int or ndarray
        What autograd holds when the forward pass and the loss are done. [B]
    moments : list of Moment
        In order.
    parts : dict
        What is saved, by label. [B]
    """

    __slots__ = ("moments", "parts", "saved")

    def __init__(self, saved: Quantity, moments: list[Moment], parts: dict[str, Quantity]) -> None:
        self.saved, self.moments, self.parts = saved, moments, parts


def trace(inventory: Inventory, plan: Plan) -> Trace:
    """Run a step on paper.

    Parameters
    ----------
    inventory : Inventory
        The model.
    plan : Plan
        How the step is run.

    Returns
    -------
    Trace
        What is saved, and what is alive when. [B]
    """
    model = Model(inventory, plan)
    model.run()
    return _walk(model)


def _walk(model: Model) -> Trace:
    """All layers in order, from the books of one of each kind."""
    whole = [(None, model.stretch_of_embedding), *model.order, (None, model.stretch_of_head)]
    moments: list[Moment] = []
    saved, rest = model.common
    logits: Quantity = 0
    for layer, stretch in whole:
        own = stretch.forward
        moments.append(
            Moment(
                "forward",
                _name(model, layer, stretch),
                saved + own[0],
                logits + own[1],
                own[2],
                rest + own[3],
            )
        )
        saved, rest, logits = saved + stretch.saved, rest + stretch.rest, logits + stretch.logits
    total = saved
    parts: dict[str, Quantity] = dict(model.parts)
    for _, stretch in whole:
        for label, bytes_ in stretch.parts.items():
            parts[label] = parts.get(label, 0) + bytes_
    gradients: Quantity = 0
    for layer, stretch in reversed(whole):
        saved, rest, logits = saved - stretch.saved, rest - stretch.rest, logits - stretch.logits
        own = stretch.backward
        if stretch is model.stretch_of_embedding:  # the last layer that read them is done
            saved, rest = saved - model.common[0], rest - model.common[1]
        phase = "loss" if stretch is model.stretch_of_head else "backward"
        moments.append(
            Moment(
                phase,
                _name(model, layer, stretch),
                saved + own[0],
                logits + own[1],
                gradients + own[2],
                rest + own[3],
            )
        )
        gradients = gradients + stretch.gradients
        logits, rest = logits + stretch.left_logits, rest + stretch.left
    return Trace(total, moments, parts)


def _name(model: Model, layer: int | None, stretch: Stretch) -> str:
    if layer is not None:
        return f"layer {layer}"
    return "head" if stretch is model.stretch_of_head else "embedding"
