"""One training question, estimated as often as it takes: for other batches, lengths, ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.heads import untied, vocabulary
from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.estimate import Moment, add_up, timeline_peak
from llmcalc.formula import Quantity, ceil_div, is_array
from llmcalc.memory.training.model_states import Frozen, States, fold, packed
from llmcalc.memory.training.runtime import runtime_item
from llmcalc.memory.training.timeline import Layout, moments
from llmcalc.memory.training.trainable import Training
from llmcalc.model.inventory import Inventory, size
from llmcalc.precision import find_format

if TYPE_CHECKING:
    from llmcalc.hardware import Device

COMPILED = (3, 4)
"""What compiled code keeps of the activations: torchtune's 3B run went from 60.0 to 51.0 GiB, of which some
37 are activations; 0.65 to 0.9 (calibrated on that run)."""


SPREADS = {"activations": (65, 90, 75)}
"""Range of what compiled code keeps, low and high, beside what is taken. [%]"""

TENSORS = (97, 101)
"""Range of all tensors at the peak: the 5th to 95th percentile of 48 published peaks, of the predicted ones
(-3.0 and +1.3 %), rounded. [%]"""


class Estimate:
    """What one step comes to.

    Attributes
    ----------
    trace, states : Trace, States
        What lies where.
    moments : list of Moment
        The timeline.
    phase, where, shares
        Of the peak, and what each item holds then. [B]
    runtime : Item
        What comes on top.
    weights : dict
        Of all models, by what they are. [B]
    host : dict
        Bytes in the machine's own memory. [B]
    whole : Item
        What comes on top in the process as a whole, which a card must hold.
    spread : tuple of int
        Range of the tensors. [%]
    compiled : bool
        Whether code is compiled, which has a range of its own.
    rank : str
        The class of ranks that this is; ``all`` where they are alike.
    ranks : list of (Stage, Estimate)
        All classes, this one included; empty for one GPU.
    standing : dict
        Buffers of the sharding or the framework that are there all the time, by what they are. [B]
    """

    __slots__ = (
        "compiled", "host", "moments", "phase", "rank", "ranks", "runtime", "shares",
        "spread", "standing", "states", "trace", "weights", "where", "whole",
    )  # fmt: skip

    def __init__(
        self, trace: Any, states: States, timeline: list[Moment], weights: dict[str, Quantity]
    ) -> None:
        self.trace, self.states, self.moments, self.weights = trace, states, timeline, weights
        self.phase, self.where, self.shares = timeline_peak(timeline)
        self.host: dict[str, Quantity] = {}
        self.runtime: Any = None
        self.whole: Any = None
        self.spread, self.compiled = TENSORS, False
        self.rank, self.ranks = "all", list[tuple[Any, Any]]()
        self.standing: dict[str, Quantity] = {}

    @property
    def allocated(self) -> Quantity:
        """Bytes of tensors at the peak. [B]"""
        return add_up(self.shares.values())

    @property
    def total(self) -> Quantity:
        """Expected bytes at the peak, runtime included. [B]"""
        return self.allocated + self.runtime.amounts[0]

    @property
    def tensors(self) -> tuple[Quantity, Quantity]:
        """Low and high of the tensors. [B]"""
        low = self.allocated * self.spread[0] // 100
        high = ceil_div(self.allocated * self.spread[1], 100)
        if self.compiled:
            least, most, taken = SPREADS["activations"]
            held = self.shares.get("activations", 0)
            low = low - ceil_div(held * (taken - least), taken)
            high = high + ceil_div(held * (most - taken), taken)
        return low, high

    @property
    def low(self) -> Quantity:
        """The lower end. [B]"""
        return self.tensors[0] + self.runtime.low[0]

    @property
    def high(self) -> Quantity:
        """The upper end. [B]"""
        return self.tensors[1] + self.runtime.high[0]

    @property
    def process(self) -> Quantity:
        """Expected bytes of the process as a whole. [B]"""
        return self.allocated + self.whole.amounts[0]

    @property
    def process_low(self) -> Quantity:
        """Its lower end. [B]"""
        return self.tensors[0] + self.whole.low[0]

    @property
    def process_high(self) -> Quantity:
        """Its upper end. [B]"""
        return self.tensors[1] + self.whole.high[0]


class Question:
    """A model, what was asked of it, and on which GPU.

    Parameters
    ----------
    inventory : Inventory
        The model that is trained.
    asked : Asked
        What was asked.
    book : Catalog
        For formats.
    device : Device, optional
        The GPU.
    others : sequence of (str, Inventory, bool)
        Frozen models beside it: what they are, and whether they share the trained one's weights.
    """

    def __init__(
        self,
        inventory: Inventory,
        asked: Asked,
        book: Catalog,
        device: Device | None = None,
        others: Any = (),
    ) -> None:
        self.asked, self.book, self.device, self.others = asked, book, device, list(others)
        self.inventory = untied(inventory) if asked.untied else inventory
        self.stored = self.inventory
        if asked.scheme is not None:
            self.stored = asked.scheme.apply(self.inventory, asked.dtype.name)
        elif str(asked.values["quant"]).lower() == "none" and asked.values["quant"] is not None:
            from llmcalc.precision.scheme import PLAIN

            self.stored = PLAIN.apply(self.inventory, asked.dtype.name)
        self._bits: dict[str, Any] = {"": asked.dtype.bits}
        self.packed = packed(self.stored)
        self._states: tuple[Any, States] | None = None
        self.local_tokens: Quantity = asked.seq
        self.local_ranks: Any = None
        self.slack: tuple[int, int] | None = None
        self.known: dict[Any, Any] = {}  # what holds for other batches, lengths and layouts too

    def bits(self, name: str) -> Any:
        """Bits of a stored format. [bit]"""
        if name not in self._bits:
            self._bits[name] = find_format(name, self.book, "stored", "--dtype").bits
        return self._bits[name]

    def plan(
        self, batch: Quantity, seq: Quantity, rank: Quantity, inventory: Inventory | None = None
    ) -> Training:
        """How the step is run; of a rank's part of the model where it is given."""
        asked, choice = self.asked, self.asked.choice
        if rank is not choice.rank:
            choice = choice.with_rank(rank)
        if asked.reference is not None:
            batch = 2 * batch  # the chosen and the rejected answer
        if choice.method == "prompt":
            seq = seq + choice.tokens
        frozen = 4 if asked.upcast else asked.dtype.block_bytes // asked.dtype.elements
        recipe, accumulates, policy = asked.recipe, self.accumulates, asked.policy
        if policy is not None:  # parameters are computed with as they are gathered
            recipe, accumulates = policy.computed, policy.accumulates
            if policy.mixed:
                frozen = policy.element
                choice = choice.with_rank(choice.rank)
                choice.adapter_bytes = policy.element
        return Training(
            self.inventory if inventory is None else inventory,
            choice,
            recipe,
            self.packed,
            batch=batch,
            seq=seq,
            element=recipe.element,
            weight_element=frozen if choice.leaves_model else recipe.weights,
            autocast=recipe.autocast,
            attention=asked.attention,
            padded=asked.padded,
            recompute=asked.recompute,
            loss=asked.loss,
            recipe=asked.implementation,
            keep_logits=asked.keep_logits,
            watched=asked.metric == "memtracker",
            keeps_inputs=asked.keeps_inputs,
            compiled=asked.compile,
            in_backward=asked.in_backward or asked.takes_gradients,
            accumulates=accumulates and not asked.takes_gradients,
            mesh=asked.mesh,
            modules=asked.modules,
            answers=asked.answers,
            no_grad=asked.no_grad,
            inputs_require_grad=choice.method in ("prompt", "prefix")
            or (choice.leaves_model and asked.recompute != "none"),
        )

    @property
    def accumulates(self) -> bool:
        """Whether gradients are there before the backward pass begins."""
        asked = self.asked
        return asked.accumulate > 1 or asked.recipe.persistent or asked.bucket_views

    def states(self, plan: Training) -> States:
        """What lies in memory from step to step; once for each rank."""
        if self._states is None or self._states[0] is not plan.choice.rank:
            self._states = plan.choice.rank, self.fold(self.stored, plan)
        return self._states[1]

    def whole(self) -> States:
        """States of the whole model, as if one GPU held them."""
        return self.states(self.plan(self.asked.batch, self.asked.seq, self.asked.choice.rank))

    def fold(self, stored: Inventory, plan: Training, cut: int = 1) -> States:
        """What lies in memory from step to step of a model or a part of it, cut among so many ranks."""
        return fold(stored, plan, self.asked.optimizer, self.frozen(), self.asked.ema, cut)

    def frozen(self) -> Frozen:
        """How what is not trained is stored."""
        asked = self.asked
        scheme = "" if asked.scheme is None else asked.scheme.name
        stated = self.inventory.quantization or {}
        applied = stated.get("applied")
        return Frozen(
            asked.dtype.block_bytes // asked.dtype.elements,
            asked.dtype.name,
            self.bits,
            scheme or (applied.name if applied is not None else ""),
            asked.upcast,
        )

    def estimate(
        self, batch: Quantity | None = None, seq: Quantity | None = None, rank: Quantity | None = None
    ) -> Estimate:
        """Estimate the step, with another batch, length or rank where given."""
        from llmcalc.memory.training.trace import trace

        asked = self.asked
        if asked.mesh is not None:
            from llmcalc.answer.training.many import estimate_many

            return estimate_many(self, batch, seq, rank)
        plan = self.plan(
            asked.batch if batch is None else batch,
            asked.seq if seq is None else seq,
            asked.choice.rank if rank is None else rank,
        )
        states = self.states(plan)
        try:
            if plan.recipe == "litgpt" and plan.loss == "chunked" and not asked.longest_first:
                plan.earlier = self._earlier(plan)
            found = trace(self.inventory, plan)
        except (NotImplementedError, KeyError) as error:  # a layer without what the recipes look for
            raise ConfigError(
                f"What {self.inventory.name} keeps for the backward pass is not known{_why(error)}.",
                "Use a model of another family; --params N tells the states of any.",
            ) from None
        weights = dict(states.weights)
        layout = self.layout(plan, states)
        for label, model, shared in self.others:
            if not shared:
                element = asked.dtype.block_bytes // asked.dtype.elements
                weights[f"{label}, frozen"] = model.params * element
            held = self.beside(label, model, plan, vocabulary(model))
            layout.extra.append(("loss", f"{label}'s forward", held, 0))
        made = Estimate(found, states, moments(found, states, add_up(weights.values()), layout), weights)
        if self.asked.metric == "memtracker":
            made.spread = (100, 100)  # its own tensors, counted under fake ones
        made.host = self.host(states, weights, found)
        self.finish(made)
        return made

    def finish(self, made: Estimate, slack: Any = None) -> None:
        """What comes on top of the tensors; `slack` is what the allocator reserves in vain, if known."""
        asked, name = self.asked, "" if self.device is None else self.device.name
        made.compiled = bool(asked.compile) and asked.recompute != "ops"  # of which what is kept is told
        more: dict[str, Any] = {"slack": slack}
        if asked.mesh is not None:
            from llmcalc.memory.training.parallel.communicators import communicators

            told = ", ".join(communicators(asked.mesh, asked.sharding_name))
            more |= {"nccl": self.nccl(), "groups": f"communicators: {told}"}
        made.runtime = made.whole = runtime_item(made.allocated, asked.metric, name, **more)
        if asked.metric != "nvidia-smi":
            made.whole = runtime_item(made.allocated, "nvidia-smi", name, **more)

    def nccl(self) -> tuple[int, int, int]:
        """What communicators take: low, expected and high. [B]"""
        from llmcalc.memory.training.parallel.communicators import communicators, nccl_bytes

        assert self.asked.mesh is not None
        return nccl_bytes(communicators(self.asked.mesh, self.asked.sharding_name))

    def _earlier(self, plan: Training) -> Quantity:
        """Logits of the micro-batch before, and the inputs that old 4-bit linears hang on its graph. [B]"""
        from llmcalc.memory.training.trace import trace

        left = 4 * plan.batch * plan.seq * vocabulary(self.inventory)
        if not (plan.keeps_inputs and self.packed):
            return left
        import copy

        bare = copy.copy(plan)
        bare.keeps_inputs = False
        return left + trace(self.inventory, plan).saved - trace(self.inventory, bare).saved

    def layout(self, plan: Training, states: States) -> Layout:
        """Where the parts of a step lie and how long."""
        asked, layout = self.asked, Layout()
        layout.persistent, layout.in_backward = self.accumulates, asked.in_backward
        layout.offload = asked.offload
        trained = states.largest * states.element if asked.in_backward else states.trained_bytes
        layout.step = asked.optimizer.step_bytes(trained, states.largest, states.element)
        if plan.keep_logits and asked.loss == "eager":
            layout.kept_logits = plan.batch * plan.seq * vocabulary(self.inventory) * plan.element
        layout.load = states.largest_frozen if self.packed else 0
        if asked.policy is not None and "params" in asked.offload:
            layout.offload = layout.offload | {"optimizer", "gradients"}
        elif "params" in asked.offload:  # a layer in use, and the next one under way
            layout.resident = (
                2
                * asked.dtype.block_bytes
                * max(sum(t.numel for t in g.tensors if t.tag == "main") for g in self.inventory.groups)
            )
        if asked.compile and asked.recompute not in ("full", "ops"):  # what is kept is told
            layout.share = COMPILED
        if "activations" in asked.offload:
            layout.share = (2 * layout.share[0], max(self.inventory.layers, 2) * layout.share[1])
        return layout

    def beside(self, label: str, model: Inventory, plan: Training, outputs: Quantity) -> Quantity:
        """What another model's forward pass holds: its logits, and the widest layer's temporaries. [B]"""
        tokens = plan.batch * plan.seq
        widest = max((size(op.out) for g in model if g.place == "layer" for op in g.ops), default=0)
        if label == "teacher":  # its probabilities are kept in fp32 for the loss
            return tokens * (outputs * (plan.element + 4) + 4 * widest * plan.element)
        return tokens * (outputs + 4 * widest) * plan.element + 4 * plan.seq * outputs

    def host(self, states: States, weights: dict[str, Quantity], found: Any) -> dict[str, Quantity]:
        """What lies in the machine's own memory. [B]"""
        away, held = self.asked.offload, {}
        if "optimizer" in away:
            held["optimizer"] = states.master + add_up(states.optimizer.values())
        if is_array(states.paged) or states.paged:
            held["paged optimizer"] = states.paged
        if "gradients" in away:
            held["gradients"] = states.gradients
        if "params" in away:
            held["weights"] = add_up(weights.values())
        if "activations" in away:
            held["activations"] = found.saved
        return held


def _why(error: Exception) -> str:
    return f" ({error})" if isinstance(error, NotImplementedError) and str(error) else ""
