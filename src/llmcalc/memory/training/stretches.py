"""A model as stretches that are run once each: embedding, one layer of each kind, head and loss."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import ConfigError
from llmcalc.formula import Quantity
from llmcalc.memory.training import ops
from llmcalc.memory.training.adapters import dropout
from llmcalc.memory.training.context import INPUTS, Run, Shared
from llmcalc.memory.training.layer import decoder_layer
from llmcalc.memory.training.ledger import FORWARD, HELD, Ledger
from llmcalc.memory.training.losses import LOSSES
from llmcalc.memory.training.parallel.tensors import scattered
from llmcalc.memory.training.plan import Plan
from llmcalc.memory.training.shape import rotary_width
from llmcalc.memory.training.tape import Node, Sink, Tape, Value
from llmcalc.memory.training.traits import VERIFIED, Traits
from llmcalc.model.inventory import Group, Inventory, size

Books = tuple[Quantity, Quantity, Quantity, Quantity]
"""Saved, logits, gradients of parameters, all else. [B]"""


class Stretch:
    """What one stretch does to memory; layers of a kind share one.

    Attributes
    ----------
    forward, backward : tuple
        What is alive at its peak of either, without what other stretches hold. [B]
    again : tuple
        The same of a forward pass that keeps what it saves, where the first one kept nothing. [B]
    saved, rest : int or ndarray
        What it leaves behind after the forward pass: saved by autograd, and kept otherwise. [B]
    logits : int or ndarray
        Of the rest, logits. [B]
    held : int or ndarray
        What else lives to the end of the forward pass: autocast's copies of weights. [B]
    parts : dict
        What it saves, by label. [B]
    gradients, left : int or ndarray
        After its backward: gradients of parameters, and what else stays. [B]
    entry : int
        Bytes of its input. [B]
    element : int
        Bytes of an element of what it makes. [B]
    turn, end : int
        Where backward begins in its ledger's log, and where it ends.
    """

    __slots__ = (
        "again", "backward", "element", "end", "entry", "forward", "gradients", "held", "ledger", "left",
        "left_logits", "logits", "parts", "rest", "root", "run", "saved", "sink", "turn",
    )  # fmt: skip

    def __init__(self, run: Run) -> None:
        self.run, self.ledger = run, Ledger(run.plan.logs)
        self.root: Any = None
        self.sink: Sink | None = None
        nothing: Books = (0, 0, 0, 0)
        self.forward = self.backward = self.again = nothing
        self.held = self.saved = self.rest = self.logits = self.gradients = self.left = self.left_logits = (
            self.entry
        ) = 0
        self.element = run.plan.weight_element
        self.turn = self.end = 0
        self.parts: dict[str, Quantity] = {}


class Model:
    """The stretches of a model and the order in which its layers run.

    Parameters
    ----------
    inventory : Inventory
        What it consists of.
    plan : Plan
        How the step is run.
    """

    def __init__(self, inventory: Inventory, plan: Plan) -> None:
        self.inventory, self.plan = inventory, plan
        self.traits = Traits(inventory.family, inventory.facts)
        if plan.recipe in (
            "litgpt",
            "torchtune",
            "torchtitan",
            "megatron",
        ):  # which have attention of their own
            self.traits.picks_heads = False
        self.tape = Tape(plan.watched, plan.in_backward, plan.accumulates)
        self.tape.compiled = plan.compiled
        self.tape.off = plan.no_grad
        self.embed, self.head = _outside(inventory, "embedding"), _outside(inventory, "head")
        table = next((op for op in self.embed.ops if op.role == "embedding"), None)
        if table is None:
            raise ConfigError(
                f"{inventory.title}: training memory needs the model's layers, and only a count is known.",
                "Name the model, or give its config.json.",
            )
        self.hidden = size(table.out)
        self.shared = Shared(0 if self.traits.tables == "none" else rotary_width(inventory))
        self.books = Ledger(plan.logs)  # of what all layers read
        self.kept: list[Value] = []  # the output object
        self.common: tuple[Quantity, Quantity] = (0, 0)
        self.parts: dict[str, Quantity] = {}
        self.order: list[tuple[int, Stretch]] = []
        self.stretches: list[Stretch] = []

    # -- forward -----------------------------------------------------------------------------

    def run(self) -> None:
        """Forward through one layer of each kind, then backward through the same.

        Raises
        ------
        ConfigError
            If a layer is of a kind whose code is not known.
        """
        _refuse_encoders(self.inventory)
        try:
            self._run()
        except KeyError:
            raise ConfigError(
                f"What a layer of {self.inventory.family} keeps for training is not known.",
                f"Known are, and compared with PyTorch: {', '.join(VERIFIED)}.",
            ) from None

    def _run(self) -> None:
        x_requires = self._embedding()
        kinds: dict[Any, Stretch] = {}
        element = self.plan.weight_element
        signatures: dict[int, tuple[Any, ...]] = {}
        for layer, group in _in_order(self.inventory):
            signature = signatures.get(id(group)) if self.plan.alike else None
            if signature is None:
                signature = signatures[id(group)] = self._signature(group, layer)
            key = (id(group), x_requires, element, *signature)
            stretch = kinds.get(key)
            if stretch is None:
                stretch = kinds[key] = self._layer(group, layer, x_requires, element)
            element = stretch.element
            x_requires = x_requires or stretch.root is not None
            self.order.append((layer, stretch))
        self._head(x_requires, element)
        if self.plan.recompute == "none":  # else what is recomputed reads them again
            self.shared.tables.clear()
            self.shared.masks.clear()
            self.shared.padding = None
        for stretch in self.stretches:
            stretch.held = stretch.ledger.now
            stretch.ledger.tell(FORWARD)
            stretch.run.casts.clear()
            stretch.ledger.tell(HELD)
            stretch.held = stretch.held - stretch.ledger.now
            self._settle(stretch)
        self.common = self.books.saved, self.books.now - self.books.saved
        self.parts = dict(self.books.parts)
        for stretch in reversed(self.stretches):
            self._backward(stretch)

    def _signature(self, group: Group, layer: int) -> tuple[Any, ...]:
        plan = self.plan
        trains = [plan.trains(group, layer, t.role, t.part) for t in group.tensors if t.tag == "main"]
        linears = [op.role for op in group.ops if op.kind == "linear"]
        beside = [_key(plan.adapter(group, layer, role)) for role in linears]
        return tuple(trains), tuple(beside), tuple(plan.dequant(group, layer, role) for role in linears)

    def _start(self, group: Group, layer: int | None) -> Stretch:
        run = Run(self.tape, self.plan, group, layer, self.traits, self.shared, self.hidden)
        stretch = Stretch(run)
        self.stretches.append(stretch)
        self.tape.ledger = stretch.ledger
        return stretch

    def _embedding(self) -> bool:
        t = self.tape
        stretch = self.stretch_of_embedding = self._start(self.embed, None)
        run = stretch.run
        t.label = INPUTS
        ids = t.new(run.rows, 8)
        x = ops.embedding(t, ids, run.weight("embedding"), self.hidden * run.rows, self.plan.weight_element)
        del ids
        if self.plan.shares_tokens > 1:
            x = scattered(t, x, self.plan.shares_tokens)
        if self.traits.scaled_embedding:
            x = ops.scale(t, x)
        if "position" in run.ops:
            places = t.new(run.rows if self.traits.own_positions else run.seq, 8)
            beside = ops.embedding(
                t, places, run.weight("position"), self.hidden * run.seq, self.plan.weight_element
            )
            del places
            x = ops.add(t, x, beside)
            del beside
        if "embed_norm" in run.ops:
            x = run.norm(x, "embed_norm")
        if self.traits.drops("embd_pdrop", "embed_dropout", "embedding_dropout"):
            x = dropout(t, x)
        stretch.root = x.node
        self._shared(run)
        t.ledger = stretch.ledger
        requires = x.node is not None or (self.plan.inputs_require_grad and not self.plan.no_grad)
        del x
        stretch.forward = stretch.ledger.at_peak()
        return requires

    def _shared(self, run: Run) -> None:
        """Rotation tables and masks, which are made once."""
        t = self.tape
        t.ledger = self.books
        if self.shared.rotary:
            t.label = "positions"
            self._tables(run)
        t.label = "masks"
        self._masks(run)

    def _tables(self, run: Run) -> None:
        t, tables, rotary = self.tape, self.shared.tables, self.shared.rotary
        element = 4 if self.traits.tables == "wide" else self.plan.weight_element
        if run.recipe.buffered:
            table = Value(t.new(0, 1).storage, rotary * run.seq, element)
            tables["full"] = tables["window"] = table, table
            return
        width = rotary // 2 if self.traits.tables == "narrow" else rotary
        if self.traits.tables == "complex":
            table = t.new(width * run.seq, 4)
            tables["full"] = table, table
            return
        for kind in ("full", "window") if self.traits.two_tables else ("full",):
            tables[kind] = t.new(width * run.seq, element), t.new(width * run.seq, element)

    def _masks(self, run: Run) -> None:
        t, plan, shared = self.tape, self.plan, self.shared
        always = plan.padded or self.traits.picks_heads
        if plan.padded:
            shared.padding = t.new(run.rows, 8)
        for window in {op.window for group in self.inventory for op in group.ops if op.role == "attention"}:
            shared.masks[window] = None
            square = run.batch * run.seq * run.seq
            if plan.attention == "eager" or (self.traits.capped and plan.attention == "sdpa"):
                shared.masks[window] = t.new(square, plan.element)
            elif plan.attention == "sdpa" and (always or (window is not None and _reached(run.seq, window))):
                shared.masks[window] = t.new(square, 1)

    def _layer(self, group: Group, layer: int, requires: bool, element: int) -> Stretch:
        t, plan = self.tape, self.plan
        stretch = self._start(group, layer)
        run = stretch.run
        t.label = "hidden states"
        x = t.new(self.hidden * run.local, element)
        stretch.entry = x.storage.bytes
        if requires:
            stretch.sink = Sink()
            x.node = stretch.sink
        if plan.recompute in ("full", "ops"):
            window = next((op.window for op in group.ops if op.role == "attention"), None)
            mask = self.shared.masks.get(window) if self.traits.passes_mask else None
            inputs = [x] if mask is None else [x, mask]
            keeps = plan.recompute == "ops"
            out = t.checkpoint(lambda x, *mask: decoder_layer(run, x), *inputs, keeps=keeps)
            del inputs
        else:
            if isinstance(plan.recompute, int):  # once for nothing, as the layers of a block first run
                t.checkpoint(lambda x: decoder_layer(run, x), x)
                stretch.forward = stretch.ledger.at_peak()
                stretch.ledger.mark()
            out = decoder_layer(run, x)
        stretch.root, stretch.element = out.node, out.element
        stretch.again = stretch.ledger.at_peak()
        if not isinstance(plan.recompute, int):
            stretch.forward = stretch.again
        return stretch

    def _head(self, requires: bool, element: int) -> None:
        t = self.tape
        stretch = self.stretch_of_head = self._start(self.head, None)
        run = stretch.run
        t.label = "hidden states"
        x = t.new(self.hidden * run.local, element)
        stretch.entry = x.storage.bytes
        if requires:
            stretch.sink = Sink()
            x.node = stretch.sink
        role = next((op.role for op in self.head.ops if op.kind == "linear" and op.role in HEADS), "")
        if role == "embedding":
            run.tensors["embedding", "weight"] = self.stretch_of_embedding.run.tensors["embedding", "weight"]
            table = self.stretch_of_embedding.run.weight("embedding")
            if not run.recipe.fused_gradients:  # else the product adds its own to where it is kept
                if table is not None:
                    table.pending = True
                run.adopt("embedding", table)
        if "final_norm" in run.ops:
            x = run.norm(x, "final_norm")
        if self.traits.wide_residual:
            x = ops.cast(t, x, self.plan.weight_element)
        x = run.enter(x) if role else x
        loss = _loss(self.plan.loss if role else "none")(run, x, role, self.kept)
        stretch.root = loss.node if loss is not None else None
        del x, loss
        stretch.forward = stretch.ledger.at_peak()

    def untraced(self) -> tuple[str, ...]:
        """Roles of matrices that no stretch has used."""
        left = {
            op.role
            for stretch in self.stretches
            for op in stretch.run.ops.values()
            if op.kind == "linear" and op.role not in stretch.run.used
        }
        return tuple(sorted(left)) if self.plan.loss != "none" else tuple(sorted(left - set(HEADS)))

    # -- after and backward --------------------------------------------------------------------

    def _settle(self, stretch: Stretch) -> None:
        books = stretch.ledger
        stretch.saved, stretch.logits = books.saved, books.logits
        stretch.rest = books.now - books.saved - books.logits
        stretch.parts = dict(books.parts)

    def _backward(self, stretch: Stretch) -> None:
        t, books = self.tape, stretch.ledger
        t.ledger = books
        books.mark()
        stretch.turn = len(books.log or ())
        if isinstance(stretch.root, Node):  # else nothing, or a layer that hands on what it reads
            root, stretch.root = stretch.root, None
            t.label = "gradients"
            if stretch is self.stretch_of_head:
                gradient = t.new(1, 4)
            else:
                gradient = t.new(self.hidden * stretch.run.local, stretch.element)
            held: list[Value | None] = [gradient]
            del gradient
            if stretch is self.stretch_of_embedding:
                self._return_table(stretch)
            t.backward(root, held)
            del root
        if stretch.sink is not None:
            stretch.sink.received = None  # it goes on to the stretch before
        stretch.run.casts.clear()
        stretch.backward = books.at_peak()
        stretch.gradients, stretch.left_logits = books.gradients, books.logits
        stretch.left = books.now - books.gradients - books.logits
        stretch.end = len(books.log or ())
        t.gradients.clear()

    def _return_table(self, stretch: Stretch) -> None:
        """The head's gradient of a tied table, which waits for the embedding's own."""
        table = stretch.run.weight("embedding")
        if table is not None and table.pending:
            table.pending = False


def _loss(name: str) -> Any:
    """The code of a loss."""
    if name in LOSSES:
        return LOSSES[name]
    from llmcalc.memory.training.policy_losses import POLICY_LOSSES

    return POLICY_LOSSES[name]


HEADS = ("embedding", "unembedding", "classifier")


def _reached(seq: Quantity, window: int) -> bool:
    """Whether a sequence is as long as a window; of an array all are or none is."""
    return seq >= window if isinstance(seq, int) else bool((seq >= window).all())


def _refuse_encoders(inventory: Inventory) -> None:
    for group in inventory.groups:
        crosses = any(op.role == "cross_attention" or op.role == "cross_query" for op in group.ops)
        if group.component == "encoder" or (crosses and group.component == "text"):
            raise ConfigError(
                f"{inventory.title} reads a second stream of tokens; what that keeps is not known.",
                "Take a model with one stream of tokens.",
            )


def _key(adapter: Any) -> Any:
    if adapter is None:
        return None
    return (
        adapter.kind,
        id(adapter.rank) if hasattr(adapter.rank, "ndim") else adapter.rank,
        adapter.bytes,
        adapter.dropout,
    )


def _outside(inventory: Inventory, place: str) -> Group:
    for group in inventory.groups:
        if group.component == "text" and group.place == place:
            return group
    return Group("text", place, (), ())


def _in_order(inventory: Inventory) -> list[tuple[int, Group]]:
    found = [
        (layer, group)
        for group in inventory.groups
        if group.place == "layer" and group.component == "text"
        for layer in group.layers
    ]
    return sorted(found, key=lambda pair: pair[0])
