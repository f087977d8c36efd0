"""Adapters beside a linear, with PEFT's flow of data and dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.formula import Quantity
from llmcalc.memory.training import ops
from llmcalc.memory.training.plan import Adapter
from llmcalc.memory.training.tape import Node, Sink, Tape, Value
from llmcalc.model.inventory import size

if TYPE_CHECKING:
    from llmcalc.memory.training.context import Run

LABEL = "adapters"


def adapted(run: Run, y: Value, x: Value, role: str, adapter: Adapter, rows: Quantity) -> Value:
    """What a linear returns, with its adapter's part."""
    t = run.tape
    label, t.label = t.label, LABEL
    op = run.ops[role]
    inp, out = size(op.inp), size(op.out)
    if adapter.kind == "bottleneck":
        y = _bottleneck(t, y, out, adapter, rows)
    elif run.plan.recipe == "litgpt" and role == "gate_up":  # which has two matrices there
        halves = [
            _low_rank(run, ops.part(t, y, y.numel // 2), x, inp, out // 2, adapter, rows) for _ in range(2)
        ]
        y = ops.cat(t, *halves)
    else:
        y = _low_rank(run, y, x, inp, out, adapter, rows)
    t.label = label
    return y


def _low_rank(run: Run, y: Value, x: Value, inp: int, out: int, adapter: Adapter, rows: Quantity) -> Value:
    """``y + B(A(dropout(x.to(dtype)))) * scale``, then back to y's dtype."""
    t, narrow = run.tape, y.element
    work = run.element if run.plan.autocast else adapter.bytes
    whole, out = out * rows, sum(adapter.parts) or out
    rank = adapter.rank * max(len(adapter.parts), 1)
    first = Sink(inp * rank, adapter.bytes, "adapter")
    second = Sink(out * adapter.rank, adapter.bytes, "adapter")
    wide = ops.cast(t, x, adapter.bytes)
    if adapter.dropout:
        wide = dropout(t, wide)
    wide = ops.cast(t, wide, work)
    low = ops.linear(t, wide, _cast_sink(t, first, work), None, rank, rows, size=first.numel)
    if adapter.kind == "dora":
        del wide
        high = ops.linear(t, low, _cast_sink(t, second, work), None, out, rows, size=second.numel)
        del low
        return _dora(run, y, high, inp, out, adapter)
    made = [low]
    del low  # nothing names what stands between, but the input's copy keeps its name
    placed = whole if adapter.parts and len(adapter.parts) < 3 else None
    return _added(t, y, made, _cast_sink(t, second, work), out, rows, second.numel, narrow, placed)


def inner(run: Run, x: Value, role: str) -> tuple[Value | Sink, ...]:
    """Of a head's adapter what its first matrix makes, and its second matrix; nothing where it has none."""
    adapter = run.plan.adapter(run.group, run.layer, role)
    if adapter is None:
        return ()
    t, op = run.tape, run.ops[role]
    label, t.label = t.label, LABEL
    first = Sink(size(op.inp) * adapter.rank, adapter.bytes, "adapter")
    wide = ops.cast(t, x, adapter.bytes)
    if adapter.dropout:
        wide = dropout(t, wide)
    low = ops.linear(t, wide, first, None, adapter.rank, run.rows, size=first.numel)
    t.label = label
    return low, Sink(size(op.out) * adapter.rank, adapter.bytes, "adapter")


def _added(
    t: Tape, y: Value, low: list[Value], second: Sink | Value, out: int, rows: Quantity, numel: Quantity,
    narrow: int, placed: Quantity = None,
) -> Value:  # fmt: skip
    """``(y + B(low) * scale).to(dtype)``, the adapter's part first laid into zeros if it is not as wide."""
    high = [ops.linear(t, low.pop(), second, None, out, rows, size=numel)]
    if placed is not None:
        high = [_placed(t, high.pop(), placed, out)]
    scaled = [ops.scale(t, high.pop())]
    whole = [ops.add(t, y, scaled.pop())]
    return ops.cast(t, whole.pop(), narrow)


def beside(run: Run, y: Value, x: Value, roles: tuple[str, ...]) -> Value:
    """Litgpt's adapter of a joint product: one first matrix for all that have one, zeros where none is."""
    found = [(role, run.plan.adapter(run.group, run.layer, role)) for role in roles]
    own = [(role, adapter) for role, adapter in found if adapter is not None]
    if not own:
        return y
    t, rows = run.tape, run.rows
    label, t.label = t.label, LABEL
    rank = sum(adapter.rank for _, adapter in own)
    inp, bytes_ = size(run.ops[roles[0]].inp), own[0][1].bytes
    out = sum(run.out(role) for role, _ in own)
    first = Sink(inp * rank, bytes_, "adapter")
    second = Sink(sum(run.out(role) * adapter.rank for role, adapter in own), bytes_, "adapter")
    wide = ops.cast(t, x, bytes_)
    if own[0][1].dropout:
        wide = dropout(t, wide)
    low = ops.linear(t, wide, first, None, rank, rows, size=first.numel)
    del wide
    high = ops.linear(t, low, second, None, out, rows, size=second.numel)
    del low
    if len(own) < len(roles):
        high = _placed(t, high, y.numel, out)
    made = ops.cast(t, ops.add(t, y, ops.scale(t, high)), y.element)
    t.label = label
    return made


def _placed(t: Tape, x: Value, numel: Quantity, columns: int) -> Value:
    """Zeros with a tensor written in at some columns: ``index_copy`` saves it and where they are."""
    node, own = t.node(x), x.numel
    places = t.new(columns, 8)
    t.save(node, x, places)
    del places
    return t.link(t.new(numel, x.element), node, lambda g, node: [t.new(own, g.element)])


def _cast_sink(t: Tape, sink: Sink, element: int) -> Sink | Value:
    if sink.bytes == element:
        return sink
    return t.link(t.new(sink.numel, element), t.node(sink), lambda g, node: [g])


def _dora(run: Run, y: Value, high: Value, inp: int, out: int, adapter: Adapter) -> Value:
    """``(m / norm - 1) * y + m / norm * high``; the norm is of the base weight and its update together."""
    t, element = run.tape, high.element
    update = t.new(out * inp, element)  # B(A(1)), whose gradient is not wanted
    whole = t.new(out * inp, element)
    del update
    squared = t.new(out * inp, element)
    del whole, squared
    magnitude = Sink(out, adapter.bytes, "adapter")
    node = t.node(magnitude)
    ratio = t.link(t.new(out, element), node, lambda g, node: [g])
    base = ops.mul(t, ops.shift(t, ratio), y)
    beside = ops.scale(t, ops.mul(t, ratio, high))
    return ops.cast(t, ops.add(t, y, ops.add(t, base, beside)), y.element)


def _bottleneck(t: Tape, y: Value, out: int, adapter: Adapter, rows: Quantity) -> Value:
    """``y + up(relu(down(y)))``."""
    down = Sink(out * adapter.rank, adapter.bytes, "adapter")
    up = Sink(out * adapter.rank, adapter.bytes, "adapter")
    low = ops.linear(t, ops.cast(t, y, adapter.bytes), down, None, adapter.rank, rows, size=down.numel)
    high = ops.linear(t, ops.saving_output(t, low), up, None, out, rows, size=up.numel)
    return ops.cast(t, ops.add(t, y, high), y.element)


def dropout(t: Tape, x: Value) -> Value:
    """Dropout on a GPU: a mask of one byte an element is saved."""
    node = t.node(x)
    mask = t.new(x.numel, 1)
    out = t.like(x)
    t.save(node, mask)

    def back(g: Value, node: Node) -> list[Value | None]:
        return [t.like(g)]

    return t.link(out, node, back)
