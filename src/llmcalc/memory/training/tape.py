"""A tape that records what PyTorch's autograd would save, and plays it backward in the order of its engine.

A `Value` is a tensor without numbers. Python frees it with its last name, as PyTorch frees a tensor, so
functions written like the modelling code have its peaks. A backward function must not hold values.
"""

from __future__ import annotations

import heapq
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from llmcalc.formula import Quantity
from llmcalc.memory.training.ledger import Ledger, Storage, differs

WEIGHT = None
"""Stands for a parameter among what is saved: it takes no memory of its own."""


def _alone() -> int:
    """What `sys.getrefcount` says of an object with one name, which differs between versions of Python."""
    one = object()
    return sys.getrefcount(one)


ALONE = _alone()


class Value:
    """A tensor: how many elements, how wide, which memory, and which node made it.

    Attributes
    ----------
    numel : int or ndarray
        Elements. [-]
    element : int
        Bytes of one. [B]
    storage : Storage
        Its memory, shared with its views.
    node : Node or None
        What its gradient goes to; None if it requires none.
    index : int
        Which output of that node it is.
    """

    __slots__ = ("element", "index", "node", "numel", "storage")

    def __init__(
        self, storage: Storage, numel: Quantity, element: int, node: Any = None, index: int = 0
    ) -> None:
        self.storage, self.numel, self.element = storage, numel, element
        self.node, self.index = node, index


class Holder:
    """What stands for a saved tensor while its layer is to be recomputed."""

    __slots__ = ("__weakref__", "frame", "storage")

    def __init__(self, frame: Frame) -> None:
        self.frame: Frame = frame
        self.storage: Storage | None = None


class RecomputedError(Exception):
    """All that was saved has been made again: what would follow is not needed."""


class Frame:
    """A stretch of the forward pass that keeps its inputs alone, as `torch.utils.checkpoint` does.

    Parameters
    ----------
    run : callable
        Makes the stretch's output of its inputs.
    inputs : sequence of Value
        What it reads.
    keeps : bool
        Whether what costs most to make is kept: what attention makes, and every second product of a matrix.
    """

    __slots__ = ("cache", "count", "done", "ends", "holders", "inputs", "keeps", "products", "run")

    def __init__(self, run: Callable[..., Value], inputs: Sequence[Value], keeps: bool = False) -> None:
        self.run, self.inputs, self.keeps = run, tuple(inputs), keeps
        self.cache: list[Storage] = []
        self.products, self.ends = 0, False
        self.holders: list[weakref.ref[Holder]] = []
        self.count, self.done = 0, False
        for item in self.inputs:
            item.storage.hold()

    def __del__(self) -> None:
        for item in self.inputs:
            item.storage.let_go()
        for storage in self.cache:
            storage.let_go()


class Node:
    """A step of the backward pass.

    Attributes
    ----------
    order : int
        The later it was made, the earlier it runs.
    edges : list
        For each input the node and output that its gradient goes to, and its size; None if it needs none.
    saved : list
        What it keeps.
    kept : list of Storage
        The same while it runs, for kernels that write gradients over what was saved.
    run : callable
        Makes the gradients of the inputs of those of the outputs.
    """

    __slots__ = ("edges", "kept", "order", "outputs", "run", "saved")

    def __init__(self, order: int, edges: list[Any], outputs: int) -> None:
        self.order, self.edges, self.outputs = order, edges, outputs
        self.saved: list[Any] = []
        self.kept: list[Storage | None] = []
        self.run: Any = None

    def needs(self, index: int) -> bool:
        """Whether the input's gradient is asked for."""
        return self.edges[index] is not None


class Sink:
    """Where gradients end: a parameter, or what lies before a stretch."""

    __slots__ = ("bytes", "name", "numel", "pending", "received")

    order = sys.maxsize
    outputs = 1

    def __init__(self, numel: Quantity = 0, bytes_: int = 0, name: str = "") -> None:
        self.numel, self.bytes, self.name = numel, bytes_, name
        self.received: Value | None = None
        self.pending = False


class Tape:
    """Records and plays back.

    Parameters
    ----------
    watched, in_backward, accumulates : bool
        As in `Plan`.

    Attributes
    ----------
    ledger : Ledger
        Books of the stretch that runs.
    label : str
        What new tensors are for.
    compiled : bool
        Whether layers are compiled.
    off : bool
        Whether nothing is recorded, as under `torch.no_grad`.
    """

    __slots__ = (
        "_frame",
        "_recomputing",
        "accumulates",
        "compiled",
        "gradients",
        "in_backward",
        "label",
        "ledger",
        "off",
        "order",
        "watched",
    )

    def __init__(self, watched: bool = False, in_backward: bool = False, accumulates: bool = False) -> None:
        self.watched, self.in_backward, self.accumulates = watched, in_backward, accumulates
        self.compiled = False
        self.ledger, self.label, self.order = Ledger(), "", 0
        self.gradients: list[Value] = []
        self.off = False
        self._frame: Frame | None = None
        self._recomputing: Frame | None = None

    # -- forward -----------------------------------------------------------------------------

    def new(self, numel: Quantity, element: int) -> Value:
        """A new tensor."""
        return Value(Storage(self.ledger, numel * element, self.label), numel, element)

    def like(self, value: Value, element: int = 0) -> Value:
        """A new tensor of a size that is there already."""
        return self.new(value.numel, element or value.element)

    def product(self, numel: Quantity, element: int, costly: bool = False) -> Value:
        """A new tensor that may be kept though its stretch is recomputed: of matrices every second one."""
        frame = self._frame if self._frame is not None else self._recomputing
        if frame is None or not frame.keeps:
            return self.new(numel, element)
        frame.products += not costly
        if not costly and frame.products % 2 == 0:
            frame.ends = False
            return self.new(numel, element)
        frame.ends = True
        if self._recomputing is None:
            made = self.new(numel, element)
            made.storage.hold()
            frame.cache.append(made.storage)
            return made
        if not frame.cache:  # the one that a compiler left out, where what comes after it is made again
            return self.new(numel, element)
        storage = frame.cache.pop(0)
        storage.let_go()
        return Value(storage, numel, element)

    def node(self, *inputs: Value | Sink | None, outputs: int = 1) -> Node | None:
        """The node of an operation, if one of its inputs requires a gradient."""
        if self.off:
            return None
        edges: list[Any] = []
        for item in inputs:
            if isinstance(item, Sink):
                edges.append((item, 0, item.numel, 0))
            elif item is None or item.node is None:
                edges.append(None)
            else:
                edges.append((item.node, item.index, item.numel, item.element))
        if not any(edges):
            return None
        self.order += 1
        return Node(self.order, edges, outputs)

    def save(self, node: Node | None, *values: Value | None) -> None:
        """Keep values (or parameters) for a node's backward."""
        if node is None:
            return
        for value in values:
            storage = value.storage if value is not None else None
            if self._recomputing is not None:
                self._remake(self._recomputing, storage)
            elif self._frame is not None:
                if self._frame.cache and storage is self._frame.cache[-1]:
                    self._frame.ends = False  # a norm after it reads it again
                holder = Holder(self._frame)
                self._frame.holders.append(weakref.ref(holder))
                node.saved.append(holder)
            elif storage is not None and storage.remade:
                node.saved.append((storage.bytes, storage.label))
            elif storage is not None:
                storage.hold()
                node.saved.append(storage)

    def _remake(self, frame: Frame, storage: Storage | None) -> None:
        holder = frame.holders[frame.count]()
        frame.count += 1
        if storage is not None and holder is not None:
            storage.hold()
            holder.storage = storage
        if frame.count == len(frame.holders):
            raise RecomputedError

    def link(self, out: Value, node: Node | None, run: Any, index: int = 0) -> Value:
        """Say that a node made a value, and how it goes backward."""
        if node is not None:
            node.run, out.node, out.index = run, node, index
        return out

    def checkpoint(self, run: Callable[..., Value], *inputs: Value, keeps: bool = False) -> Value:
        """Run a stretch that is recomputed in backward; inside another such stretch it is an ordinary one."""
        if self._frame is not None or self._recomputing is not None:
            return run(*inputs)
        frame = self._frame = Frame(run, inputs, keeps)
        try:
            return run(*inputs)
        finally:
            self._frame = None
            if self.compiled and frame.ends and frame.cache:
                frame.cache.pop().let_go()  # a compiler sees that nothing reads the last one again

    # -- backward ----------------------------------------------------------------------------

    def backward(self, root: Node, gradient: list[Value | None]) -> None:
        """Play back from a node, as the engine does: of what is ready the newest first.

        The list is emptied: a gradient that it named would not be freed.
        """
        waiting = _dependencies(root)
        buffers: dict[int, list[Value | None]] = {id(root): [gradient.pop()]}
        ready: list[tuple[int, int, Any]] = [(-root.order, 0, root)]
        ticket = 0
        while ready:
            node = heapq.heappop(ready)[2]
            inputs = buffers.pop(id(node))
            if isinstance(node, Sink):
                self._arrive(node, inputs)
                continue
            targets = node.edges
            made = self._step(node, inputs)
            for place, edge in enumerate(targets):
                if edge is None:
                    continue
                target, index = edge[0], edge[1]
                gradient_, made[place] = made[place], None
                if gradient_ is not None:
                    slots = buffers.setdefault(id(target), [None] * target.outputs)
                    self._collect(slots, index, [gradient_])
                del gradient_
                waiting[id(target)] -= 1
                if not waiting[id(target)] and id(target) in buffers:
                    ticket += 1
                    heapq.heappush(ready, (-target.order, ticket, target))

    def _step(self, node: Node, inputs: list[Value | None]) -> list[Value | None]:
        """One node: its gradients, brought to the sizes of its inputs, after which nothing is saved."""
        kept = node.kept = [self._unpack(item) for item in node.saved]
        made = list(node.run(*inputs, node))
        inputs.clear()
        for place, edge in enumerate(node.edges):
            if edge is None:
                made[place] = None
                continue
            value = made[place]
            if value is None:
                continue
            if differs(value.numel, edge[2]):
                value = made[place] = self.new(edge[2], value.element)
            if edge[3] and value.element != edge[3]:
                made[place] = self.like(value, edge[3])
            del value
        for storage in kept:
            if storage is not None:
                storage.let_go()
        kept.clear()
        node.saved, node.run = [], None
        return made

    def _unpack(self, item: Storage | Holder | tuple[Quantity, str]) -> Storage | None:
        if isinstance(item, tuple):
            made = Storage(self.ledger, *item)
            made.hold()
            return made
        if isinstance(item, Storage):
            return item
        frame = item.frame
        if not frame.done:
            self._recompute(frame)
        storage, item.storage = item.storage, None
        return storage

    def _recompute(self, frame: Frame) -> None:
        self._recomputing, frame.products = frame, 0
        label = self.label
        try:
            frame.run(*frame.inputs)
        except RecomputedError:
            pass
        finally:
            self._recomputing, self.label = None, label
        frame.done = True

    def _collect(self, slots: list[Value | None], index: int, arrived: list[Value]) -> None:
        """Add a gradient to those that came before it: in place if nobody else looks at the sum."""
        old = slots[index]
        slots[index] = None
        if old is None:
            slots[index] = arrived.pop()
        elif not self.watched and sys.getrefcount(old) == ALONE and sys.getrefcount(old.storage) == 2:
            slots[index] = old
        else:
            slots[index] = self.like(old)

    def _arrive(self, sink: Sink, inputs: list[Value | None]) -> None:
        """A gradient has come to its parameter, or to the beginning of the stretch."""
        value = inputs.pop()
        if value is None:
            return
        if sink.pending or not sink.bytes:
            sink.received = value
            return
        if sink.received is not None:  # of a tied table: the other one's has waited
            if self.watched:
                value = self.like(value)
            sink.received = None
        if self.accumulates:  # added to what is there
            return
        if sys.getrefcount(value) > ALONE or value.element != sink.bytes:
            value = self.like(value, sink.bytes)  # in memory of its own
        storage = value.storage
        storage.relabel("gradients")
        self.ledger.gradients = self.ledger.gradients + storage.bytes
        self.ledger.add(0)
        if self.in_backward:
            self.ledger.gradients = self.ledger.gradients - storage.bytes
        else:
            self.gradients.append(value)


def _dependencies(root: Node) -> dict[int, int]:
    """How many gradients each node waits for."""
    counts: dict[int, int] = {}
    seen = {id(root)}
    stack = [root]
    while stack:
        for edge in stack.pop().edges:
            if edge is None:
                continue
            target = edge[0]
            counts[id(target)] = counts.get(id(target), 0) + 1
            if id(target) not in seen:
                seen.add(id(target))
                if isinstance(target, Node):
                    stack.append(target)
    return counts
