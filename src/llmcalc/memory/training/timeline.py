"""A step as a sequence of moments: loading, forward, loss, backward layer by layer, the optimizer."""

from __future__ import annotations

from typing import Any

from llmcalc.estimate import Moment, add_up
from llmcalc.formula import Quantity, ceil_div, larger
from llmcalc.memory.training.model_states import States

PHASES = ("load", "forward", "loss", "backward", "step")
NAMES = (
    "weights",
    "master_weights",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "gathered",
    "buffers",
)
"""Items that the allocator holds, in the contract's order; ``runtime`` comes on top."""


class Layout:
    """What decides where the parts of a step lie and how long.

    Attributes
    ----------
    persistent : bool
        Whether gradients are there all the time: accumulated, or in a buffer of their own.
    in_backward : bool
        Whether the optimizer steps in the backward pass.
    offload : set of str
        What lies on the host: ``optimizer``, ``gradients``, ``params``, ``activations``.
    step : int or ndarray
        What the optimizer's step holds besides. [B]
    kept_logits : int or ndarray
        Logits that the output object keeps until the next forward pass. [B]
    load : int
        What loading holds besides the weights. [B]
    resident : int
        Weights on the device where parameters are offloaded. [B]
    share : tuple of int
        Share of the activations that stays on the device (compiled code keeps less, some go to the host),
        as numerator and denominator. [-]
    extra : list of (str, str, int, int)
        Other models' moments after the loss is known: phase, place, bytes, and what is gathered for them. [B]
    sharding : Sharding or None
        How several GPUs share the states, and what that adds.
    reserved : int or ndarray
        The most that moments hold together with what pools of other streams keep. [B]
    """

    __slots__ = (
        "extra",
        "in_backward",
        "kept_logits",
        "load",
        "offload",
        "persistent",
        "reserved",
        "resident",
        "sharding",
        "share",
        "step",
    )

    def __init__(self) -> None:
        self.persistent = self.in_backward = False
        self.offload: frozenset[str] = frozenset()
        self.step: Quantity = 0
        self.kept_logits: Quantity = 0
        self.load = self.resident = 0
        self.share = (1, 1)
        self.extra: list[tuple[str, str, Quantity, Quantity]] = []
        self.sharding: Any = None
        self.reserved: Quantity = 0

    def note(self, moment: Moment, idle: Quantity) -> None:
        """Take a moment with what lies idle beside it."""
        self.reserved = larger(self.reserved, moment.total + idle)


def moments(trace: Any, states: States, weights: Quantity, layout: Layout) -> list[Moment]:
    """All moments of a step, each with what every item holds on the device.

    Parameters
    ----------
    trace : Trace
        Activations, logits, gradients and temporaries of forward, loss and backward.
    states : States
        What lies in memory from step to step.
    weights : int or ndarray
        All weights, other models' included. [B]
    layout : Layout
        Where it lies.
    """
    away = layout.offload
    base: dict[str, Quantity] = {
        "weights": layout.resident if "params" in away else weights,
        "master_weights": 0 if "optimizer" in away else states.master,
        "optimizer": 0 if "optimizer" in away else add_up(states.optimizer.values()),
    }
    held = 0 if "gradients" in away else states.gradients
    found = [Moment("load", "weights", {"weights": base["weights"], "buffers": layout.load})]
    before: Quantity = 0
    last_forward = None
    earlier: Quantity = 0
    for one in trace.moments:
        if layout.extra and last_forward is not None and one.phase == "backward":
            found += _others(layout, base, last_forward, held if layout.persistent else 0, earlier)
            last_forward = None
        gradients: Quantity = one.gradients
        if layout.persistent and "gradients" not in away:
            gradients = held
        elif "gradients" in away:
            # Each layer's gradients leave as soon as they are made.
            gradients = larger(one.gradients - before, 0)
        before = one.gradients
        told = _around(one, trace, layout, base, gradients)
        if one.phase != "backward":
            last_forward = told[0].held
        if one.phase == "forward":
            earlier = told[0].held["gradients"]
        found += told[1:]
    if not layout.in_backward:
        optimizer = base["optimizer"] + (0 if "optimizer" in away else layout.step)
        now = {
            **base, "optimizer": optimizer, "activations": 0, "logits": layout.kept_logits, "gathered": 0,
            "gradients": held if layout.sharding is None else layout.sharding.left(held),
            "buffers": 0 if layout.sharding is None else layout.sharding.left_standing,
        }  # fmt: skip
        found.append(Moment("step", "optimizer", now))
    return found


def _around(
    one: Any, trace: Any, layout: Layout, base: dict[str, Quantity], gradients: Quantity
) -> list[Moment]:
    """A moment of the trace; then all of it: what a sharding does before, the moment, what it does after."""
    buffers, gathered = one.buffers, 0
    sharding = layout.sharding
    first: list[Any] = []
    last: list[Any] = []
    if sharding is not None:
        own, gathered, more = sharding.at(one)
        if sharding.own_gradients or not (layout.persistent or "gradients" in layout.offload):
            gradients = own
        buffers = buffers + more + add_up(sharding.standing.values())
        idle = sharding.idle
        first, last = sharding.around(one)
    activations = _activations(one, layout, trace.parts.get("logits", 0))
    # A block that is computed again keeps its own for a while: that is no activation of the forward pass.
    again = larger(activations - trace.saved, 0)
    steps = layout.step if layout.in_backward and one.phase == "backward" else 0
    made = Moment(
        one.phase,
        one.where,
        {
            **base,
            "gradients": gradients,
            "activations": activations - again,
            "logits": one.logits,
            "gathered": gathered,
            "buffers": buffers + again + steps,
        },
    )
    if sharding is None:
        return [made, made]
    layout.note(made, idle)
    standing = add_up(sharding.standing.values())
    before, after = ([_event(event, base, trace.saved, standing) for event in some] for some in (first, last))
    for event, moment in zip((*first, *last), (*before, *after), strict=True):
        layout.note(moment, event[4])
    return [made, *before, made, *after]


def _event(event: Any, base: dict[str, Quantity], saved: Quantity, standing: Quantity) -> Moment:
    """A moment between two stretches, as a sharding tells it."""
    phase, where, (kept, logits, rest), (gradients, gathered, more), _ = event
    again = larger(kept - saved, 0)
    now = {
        **base, "gradients": gradients, "activations": kept - again, "logits": logits, "gathered": gathered,
        "buffers": rest + again + more + standing,
    }  # fmt: skip
    return Moment(phase, where, now)


def _activations(one: Any, layout: Layout, logits: Quantity) -> Quantity:
    """What stays on the device; what the loss keeps is outside the modules that are compiled or offloaded."""
    numerator, denominator = layout.share
    if numerator == denominator:
        return one.activations
    own = logits if one.phase == "loss" else 0
    return own + ceil_div((one.activations - own) * numerator, denominator)


def _others(
    layout: Layout,
    base: dict[str, Quantity],
    now: dict[str, Quantity],
    gradients: Quantity,
    earlier: Quantity,
) -> list[Moment]:
    """Other models' forward passes, while the activations of the one that is trained are kept."""
    sharding, standing, gathered = layout.sharding, 0, 0
    if sharding is not None:  # which tells gradients of micro-batches before as they were in this pass
        standing, gathered = add_up(sharding.standing.values()), now["gathered"]
        gradients = earlier if sharding.own_gradients else gradients
    found = []
    for phase, where, extra, more in layout.extra:
        held = {
            **base, "gradients": gradients, "activations": now["activations"], "logits": now["logits"],
            "gathered": gathered + more, "buffers": standing + extra,
        }  # fmt: skip
        found.append(Moment(phase, where, held))
        if sharding is not None:
            layout.note(found[-1], sharding.idle)
    return found
