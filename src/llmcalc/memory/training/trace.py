"""What a training step holds, moment by moment: a fold over the inventory's ops with a recipe."""

from __future__ import annotations

from llmcalc.formula import Quantity, is_array, where
from llmcalc.memory.training.plan import Plan
from llmcalc.memory.training.stretches import Books, Model, Stretch
from llmcalc.model.inventory import Inventory

Edge = tuple[Quantity, Quantity, Quantity]
"""Saved, logits, all else. [B]"""


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
    layer : int or None
        Which layer runs; None of embedding and head.
    own : int or ndarray
        Of the gradients, those of the stretch that runs. [B]
    begin, end : tuple of int or ndarray
        Saved, logits and all else before and after the stretch, gradients of parameters left out; known of
        walks that are `edged`. [B]
    """

    __slots__ = (
        "activations", "begin", "buffers", "end", "gradients", "layer", "logits", "own", "phase", "where",
    )  # fmt: skip

    def __init__(
        self,
        phase: str,
        where: str,
        activations: Quantity,
        logits: Quantity,
        gradients: Quantity,
        buffers: Quantity,
        layer: int | None = None,
        own: Quantity = 0,
    ) -> None:
        self.phase, self.where, self.layer, self.own = phase, where, layer, own
        self.activations, self.logits, self.gradients, self.buffers = activations, logits, gradients, buffers
        self.begin: Edge = (0, 0, 0)
        self.end: Edge = (0, 0, 0)

    @property
    def total(self) -> Quantity:
        """All of it. [B]"""
        return self.activations + self.logits + self.gradients + self.buffers

    def or_worse(self, other: Moment) -> None:
        """Become the worse of two moments of equal layers, for each configuration of an array."""
        higher = other.total > self.total
        for name in ("activations", "logits", "gradients", "buffers"):
            setattr(self, name, where(higher, getattr(other, name), getattr(self, name)))
        self.where = "layers"

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
    grade : str
        ``derived`` where the family's layers were compared with what PyTorch keeps of them, else ``assumed``.
    untraced : tuple of str
        Matrices that take part in the model but not in the trace: what they keep is missing.
    """

    __slots__ = ("grade", "moments", "parts", "saved", "untraced")

    def __init__(
        self,
        saved: Quantity,
        moments: list[Moment],
        parts: dict[str, Quantity],
        grade: str = "derived",
        untraced: tuple[str, ...] = (),
    ) -> None:
        self.saved, self.moments, self.parts = saved, moments, parts
        self.grade, self.untraced = grade, untraced


def trace(inventory: Inventory, plan: Plan) -> Trace:
    """Run a step on paper.

    Parameters
    ----------
    inventory : Inventory
        The model.
    plan : Plan
        How the step is run; its amounts may be arrays that broadcast together.

    Returns
    -------
    Trace
        What is saved, and what is alive when. [B]

    Raises
    ------
    ConfigError
        If only a count is known of the model, or a layer is of a kind whose code is not known.

    Notes
    -----
    Operations, their order and what each saves are those of transformers 5 with PyTorch 2.13, or of the
    plan's recipe. One layer of each kind is run; equal layers add up. Kernels are those of a GPU.

    Examples
    --------
    A layer of Llama saves 20 h + 4 k + 4 a + 8 f + 8 bytes a token, which PyTorch's own hooks confirm to the
    byte; of Llama-3.1-8B that is 200,840, as two models that differ by one layer show:

    >>> import llmcalc
    >>> whole = dict(model_type="llama", hidden_size=4096, num_attention_heads=32, num_key_value_heads=8,
    ...              intermediate_size=14336, vocab_size=128256)
    >>> two, three = (llmcalc.model({**whole, "num_hidden_layers": n}) for n in (2, 3))
    >>> trace(three, Plan(1, 1024)).saved - trace(two, Plan(1, 1024)).saved == 200_840 * 1024
    True
    """
    if plan.recompute == 1 and plan.recompute is not True:
        from llmcalc.memory.training.branches import replaced

        plan = replaced(plan, recompute="full")
    if is_array(plan.batch) or is_array(plan.seq):
        from llmcalc.memory.training.branches import branched

        made: Trace = branched(inventory, plan, run)
        return made
    return run(inventory, plan)


def run(inventory: Inventory, plan: Plan) -> Trace:
    """A step of one kind: no amount in it decides which operations run."""
    model = Model(inventory, plan)
    model.run()
    return Walk(model).trace()


class Walk:
    """All layers in order, from the books of one of each kind.

    Parameters
    ----------
    model : Model
        Whose stretches have run.
    layers : range, optional
        The layers that are run here, all unless they are cut into stages.
    embedding, head : bool
        Whether those are here too.
    brief : bool
        Whether of many equal layers only the two at each end are told; what all hold changes evenly between.
    other, number : Model or None, int
        The same model run in another way, whose first layers stand in the place of this one's.
    edged : bool
        Whether moments tell what is there before and after their stretch; equal layers are then kept apart.
    """

    def __init__(
        self, model: Model, layers: range | None = None, embedding: bool = True, head: bool = True,
        brief: bool = False, other: Model | None = None, number: int = 0, edged: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.edged = model, edged
        order = [pair for pair in model.order if layers is None or pair[0] in layers]
        if other is not None and number:
            known = dict(other.order)
            order = [(layer, known[layer] if n < number else own) for n, (layer, own) in enumerate(order)]
        self.start = 1 if embedding else 0
        self.whole: list[tuple[int | None, Stretch]] = [
            *([(None, model.stretch_of_embedding)] if embedding else []),
            *order,
            *([(None, model.stretch_of_head)] if head else []),
        ]
        self.end = self.start + len(order)
        self.moments: list[Moment] = []
        self._added: dict[int, int] = {}
        self._merged: dict[tuple[str, int], Moment] = {}
        self.gradients: Quantity = 0
        self.logits: Quantity = 0
        self.saved, self.rest = model.common
        self.block = model.plan.recompute if isinstance(model.plan.recompute, int) else 0
        if self.block:  # blocks keep tables and masks as what they read, not as what they save
            self.saved, self.rest = 0, self.saved + self.rest
        self.merges = not edged and (is_array(model.plan.batch) or is_array(model.plan.seq))
        self.passed = self._passed() if brief and not self.block else {}

    def trace(self) -> Trace:
        """Forward through all layers, then backward."""
        total = self.forward()
        parts = self.parts()
        self.backward()
        untraced = self.model.untraced()
        verified = self.model.traits.verified and not untraced and self.model.plan.recipe != "megatron"
        return Trace(total, self.moments, parts, "derived" if verified else "assumed", untraced)

    def forward(self) -> Quantity:
        """Forward through all layers; what autograd then holds. [B]"""
        for place, (layer, stretch) in enumerate(self.whole):
            if place not in self.passed:
                before = self._now(stretch.entry)
                self._note("forward", layer, stretch, stretch.forward)
                self._keep(place, layer, stretch, 1)
                self.rest = self.rest + stretch.held
                if self.edged:
                    self.moments[-1].begin, self.moments[-1].end = before, self._now(0)
            elif self.passed[place]:
                number = self.passed[place]
                self._keep(place, layer, stretch, number)
                self.rest = self.rest + number * stretch.held
        self.rest = self.rest - sum(stretch.held for _, stretch in self.whole)
        return self.saved

    def backward(self) -> None:
        """Backward through all layers."""
        for place in range(len(self.whole) - 1, -1, -1):
            layer, stretch = self.whole[place]
            if place in self.passed:
                number = self.passed[place]
                self._keep(place, layer, stretch, -number)
                self.gradients = self.gradients + number * stretch.gradients
                self.logits = self.logits + number * stretch.left_logits
                self.rest = self.rest + number * stretch.left
                continue
            # The gradient of what it has made has come.
            before = self._now(self.whole[place + 1][1].entry if place + 1 < len(self.whole) else 0)
            if self.block and layer is not None:
                self._remade(place)
            else:
                self._keep(place, layer, stretch, -1)
            if place == 0 and self.start:  # the last layer that read tables and masks is done
                shared, other = self.model.common
                kept = 0 if self.block else shared
                self.saved, self.rest = self.saved - kept, self.rest - (shared - kept) - other
            phase = "loss" if stretch is self.model.stretch_of_head else "backward"
            self._note(phase, layer, stretch, stretch.backward)
            if self.block and layer is not None and self._first(place):
                self.saved = self.saved - stretch.entry
            self.gradients = self.gradients + self._once(stretch)
            self.logits, self.rest = self.logits + stretch.left_logits, self.rest + stretch.left
            if self.edged:
                received = 0 if stretch.sink is None else stretch.entry
                self.moments[-1].begin, self.moments[-1].end = before, self._now(received)

    def _now(self, more: Quantity) -> Edge:
        """What is there between two stretches, and what passes from one to the other."""
        return self.saved, self.logits, self.rest + more

    def _passed(self) -> dict[int, int]:
        """Places that are not told: how many layers the first of them stands for, and 0 at the others."""
        passed: dict[int, int] = {}
        begin = self.start
        while begin < self.end:
            stretch, finish = self.whole[begin][1], begin
            while finish < self.end and self.whole[finish][1] is stretch:
                finish += 1
            if finish - begin > 4 and stretch.run.group.stored is None:
                passed |= dict.fromkeys(range(begin + 2, finish - 2), 0)
                passed[begin + 2] = finish - begin - 4
            begin = finish
        return passed

    def _once(self, stretch: Stretch) -> Quantity:
        """Gradients that a stretch adds: a block stored once and run at many layers adds them once."""
        stored = stretch.run.group.stored
        if stored is None or stretch.run.layer is None:
            return stretch.gradients
        self._added[id(stretch.run.group)] = count = self._added.get(id(stretch.run.group), 0) + 1
        return stretch.gradients if count <= stored else 0

    def _first(self, place: int) -> bool:
        """Whether a layer begins a block that is recomputed as a whole."""
        return (place - self.start) % self.block == 0

    def _keep(self, place: int, layer: int | None, stretch: Stretch, sign: int) -> None:
        """What a stretch leaves behind after its forward pass is there, or there no more."""
        if self.block and layer is not None:
            if self._first(place):
                self.saved = self.saved + sign * stretch.entry
            return
        self.saved = self.saved + sign * stretch.saved
        self.rest, self.logits = self.rest + sign * stretch.rest, self.logits + sign * stretch.logits

    def _remade(self, place: int) -> None:
        """Before the last layer of a block goes backward, all of the block runs again."""
        last = place == self.end - 1 or self._first(place + 1)
        if not last:
            self.saved = self.saved - self.whole[place][1].saved
            return
        start = place - (place - self.start) % self.block
        for one in range(start, place + 1):
            layer, stretch = self.whole[one]
            self._note("backward", layer, stretch, stretch.again)
            if one < place:
                self.saved = self.saved + stretch.saved

    def _note(self, phase: str, layer: int | None, stretch: Stretch, own: Books) -> None:
        if layer is not None:
            name = f"layer {layer}"
        else:
            name = "head" if stretch is self.model.stretch_of_head else "embedding"
        moment = Moment(
            phase,
            name,
            self.saved + own[0],
            self.logits + own[1],
            self.gradients + own[2],
            self.rest + own[3],
            layer,
            own[2],
        )
        known = self._merged.get((phase, id(stretch))) if self.merges else None
        if known is not None:
            known.or_worse(moment)
            return
        self._merged[phase, id(stretch)] = moment
        self.moments.append(moment)

    def parts(self) -> dict[str, Quantity]:
        """What is saved, by label. [B]"""
        parts = {} if self.block else dict(self.model.parts)
        for place, (layer, stretch) in enumerate(self.whole):
            if self.block and layer is not None:
                own = {"hidden states": stretch.entry} if self._first(place) else {}
            else:
                own = stretch.parts
            for label, bytes_ in own.items():
                parts[label] = parts.get(label, 0) + bytes_
        return {label: bytes_ for label, bytes_ in parts.items() if is_array(bytes_) or bytes_}
