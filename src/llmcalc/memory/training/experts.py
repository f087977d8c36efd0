"""Routed experts of transformers 5: tokens sorted by expert, multiplied in groups, weighed, and put back."""

from __future__ import annotations

from llmcalc.formula import Quantity
from llmcalc.memory.training import ops
from llmcalc.memory.training.context import EXPERTS, Run
from llmcalc.memory.training.parallel import tensors
from llmcalc.memory.training.tape import WEIGHT, Node, Sink, Tape, Value
from llmcalc.model.inventory import size

INDEX, CHANCE, OFFSET = 8, 4, 4
"""Bytes of an index, of a probability, and of where an expert's tokens end. [B]"""


def routed(run: Run, x: Value) -> Value:
    """From the normed tokens to the sum over each token's experts."""
    t = run.tape
    label, t.label = t.label, EXPERTS
    if run.recipe.regathers and not run.plan.dequant(run.group, run.layer, "expert_down"):
        out = dispatched(run, x)
        t.label = label
        return out
    op = run.ops["expert_down"]
    active, stored = op.active, op.stored
    chances, chosen = ROUTERS[run.traits.router](run, x, active, stored)
    inner = run.linear(x, "latent_down") if "latent_down" in run.ops else x
    del x
    out = _grouped(run, inner, chances, chosen, active, stored)
    if "latent_norm" in run.ops:
        out = run.norm(out, "latent_norm")
    if "latent_up" in run.ops:
        out = run.linear(out, "latent_up")
    t.label = label
    return out


def dispatched(run: Run, x: Value) -> Value:
    """Megatron-Core's: tokens permuted by expert and sent to its rank, grouped products, and all of it back.

    Chances are multiplied with what the gate makes, so that the second product's result is not kept.
    """
    t, op, mesh = run.tape, run.ops["expert_down"], run.plan.mesh
    active, stored, tokens = op.active, op.stored, run.local
    pairs = active * tokens
    stored = stored if mesh is None else stored * mesh.ep
    rows = pairs if mesh is None else mesh.routed(tokens, active, stored)
    width = size(op.out)
    chances = ops.saving_output(t, ops.cast(t, run.linear(x, "router"), 4))
    chances = ops.mul(t, chances, t.new(stored * tokens, 1))  # only those of a token's own experts
    here = _moved(t, x, width * (pairs if mesh is None else rows))  # permuted
    sent = _moved(t, here, width * rows)  # both keep their names to the end
    there = _moved(t, sent, width * rows)  # sorted by expert
    fused = "expert_gate_up" in run.ops
    gates = ("expert_gate_up",) if fused else ("expert_gate", "expert_up")
    gates = gates if all(role in run.ops for role in gates) else ("expert_up",)
    wide = _matrices(run, there, gates, rows)
    del there
    weights = _moved(t, chances, rows)
    del chances
    inner = _gated(run, wide, weights, size(op.inp) * rows)
    inner.storage.remade = "moe_act" in run.plan.modules
    del wide, weights
    out = _matrices(run, inner, ("expert_down",), rows)
    del inner
    out = _moved(t, out, width * rows)
    out = _moved(t, out, width * pairs)
    del sent
    return _moved(t, out, width * tokens)


def _moved(t: Tape, x: Value, numel: Quantity) -> Value:
    """Rows copied, sent or summed; nothing is kept, and gradients go the same way back."""
    node, own = t.node(x), x.numel
    return t.link(t.new(numel, x.element), node, lambda g, node: [t.new(own, g.element)])


def _matrices(run: Run, x: Value, roles: tuple[str, ...], rows: Quantity) -> Value:
    """Products of all experts here, as one matrix each."""
    outs = [run.out(role) * rows for role in roles]
    sinks: list[Sink | None] = [run.weight(role) for role in roles]
    if any(run.plan.adapter(run.group, run.layer, role) is not None for role in roles):
        sinks.append(Sink(0, run.element))  # what stands beside them reads the same tokens
    return tensors.regathered(run.tape, x, sinks, outs, 1)


def _gated(run: Run, wide: Value, weights: Value, numel: Quantity) -> Value:
    """``act(gate) * up * chance`` in one kernel, which saves what it reads."""
    t = run.tape
    node = t.node(wide, weights)
    t.save(node, wide, weights)
    sizes, element = (wide.numel, weights.numel), wide.element

    def back(g: Value, node: Node) -> list[Value | None]:
        return [t.new(sizes[0], element), t.new(sizes[1], 4)]

    return t.link(t.new(numel, element), node, back)


# -- routers -----------------------------------------------------------------------------------


def _softmax_first(run: Run, x: Value, active: int, stored: int) -> tuple[Value, Value]:
    """Chances of all experts in fp32, then the best of them."""
    t, traits = run.tape, run.traits
    if traits.wide_router:
        chances = ops.saving_output(t, _wide_linear(run, x, stored))
        del x
        if traits.facts.get("topk_method", "greedy") != "greedy":
            chances = _within_groups(run, chances, stored, pairs=False)[0]
        return top(t, chances, active * run.rows)
    logits = run.linear(x, "router")
    del x
    chances = ops.saving_output(t, ops.cast(t, logits, 4))
    best, chosen = top(t, chances, active * run.rows)
    del chances
    if not traits.unnormed_chances:
        best = _normed_in_place(run, best)
    if traits.narrow_chances:
        best = ops.cast(t, best, logits.element)
    return best, chosen


def _softmax_last(run: Run, x: Value, active: int, stored: int) -> tuple[Value, Value]:
    """The best logits, then chances of those alone."""
    t = run.tape
    best, chosen = top(t, run.linear(x, "router"), active * run.rows)
    narrow = best.element
    if run.traits.wide_chances:
        best = ops.cast(t, best, 4)
    return ops.cast(t, ops.saving_output(t, best), narrow), chosen


def _sigmoid(run: Run, x: Value, active: int, stored: int) -> tuple[Value, Value]:
    """Sigmoids in fp32; a bias that does not train helps to choose, first groups of experts, then experts."""
    t = run.tape
    scores = ops.saving_output(t, _wide_linear(run, x, stored))
    del x
    choice, beside = ops.shift(t, scores), tuple[Value, ...]()
    if run.traits.facts.get("n_group"):
        choice, beside = _within_groups(run, choice, stored, pairs=True)
    chosen = top(t, choice, active * run.rows)[1]
    del choice
    node = t.node(scores)
    t.save(node, chosen, *beside)
    del beside
    whole = scores.numel
    best = t.link(t.new(active * run.rows, 4), node, lambda g, node: [t.new(whole, 4)])
    del scores
    if not run.traits.unnormed_chances:
        best = _normed_in_place(run, best)
    return ops.scale(t, best), chosen


def _within_groups(run: Run, scores: Value, stored: int, pairs: bool) -> tuple[Value, tuple[Value, ...]]:
    """Only experts of the best groups stay to be chosen: a group counts by its best expert, or its best two.

    What autograd saves of the choice itself leads to no loss. It is counted, as hooks on saved tensors do.
    """
    t, rows, facts = run.tape, run.rows, run.traits.facts
    groups, kept = int(facts.get("n_group") or 1), int(facts.get("topk_group") or 1)
    best, first = top(t, scores, groups * (2 if pairs else 1) * rows)
    if pairs:
        best = ops.total(t, best, groups * rows)
    second = top(t, best, kept * rows)[1]
    del best
    mask = t.new(stored * rows, 1)
    node = t.node(scores)
    t.save(node, mask, first, second)
    return t.link(t.like(scores), node, lambda g, node: [t.like(g)]), (mask, first, second)


def _wide_linear(run: Run, x: Value, stored: int) -> Value:
    """The router in fp32; its matrix is stored so."""
    t = run.tape
    wide = ops.cast(t, x, 4)
    del x
    run.used.add("router")
    return ops.linear(t, wide, run.weight("router"), None, stored, run.rows, size=run.numel("router"))


ROUTERS = {"softmax-first": _softmax_first, "softmax-last": _softmax_last, "sigmoid": _sigmoid}


def top(t: Tape, x: Value, numel: Quantity) -> tuple[Value, Value]:
    """The largest of each row, and where they stand; the gradient is laid into zeros."""
    node = t.node(x)
    best, places = t.new(numel, x.element), t.new(numel, INDEX)
    t.save(node, places)
    whole = x.numel
    return t.link(best, node, lambda g, node: [t.new(whole, g.element)]), places


def _normed_in_place(run: Run, best: Value) -> Value:
    """``best /= best.sum()``: what is written over is copied first, as its gradient needs it."""
    t = run.tape
    sums = ops.total(t, best, run.rows)
    node = t.node(best, sums)
    if node is not None:
        before = t.like(best)
        t.save(node, before, sums)
        del before
    element = best.element
    whole = best.numel

    def back(g: Value, node: Node) -> list[Value | None]:
        ratio = t.new(whole, element)
        other = t.new(whole, element)
        del ratio
        return [t.new(whole, element), other]

    return t.link(Value(best.storage, whole, element), node, back)


# -- grouped products --------------------------------------------------------------------------


def _grouped(run: Run, x: Value, chances: Value, chosen: Value, active: int, stored: int) -> Value:
    """A copy of each token for each of its experts, all experts in one product."""
    t, pairs = run.tape, active * run.rows
    label = t.label
    sorted_ids = t.new(pairs, INDEX)
    order = t.new(pairs, INDEX)
    where = t.new(pairs, INDEX)
    width = x.numel // run.rows if isinstance(x.numel, int) else size(run.ops["expert_down"].out)
    copies = ops.index(t, x, width * pairs, where)
    del x, where
    weights = ops.index(t, chances, pairs, order)
    ends = t.new(stored, OFFSET)
    inner = _between(run, copies, ends, pairs, sorted_ids)
    del copies
    down = _product(run, inner, "expert_down", ends, pairs, sorted_ids)
    del inner
    weighed = ops.mul(t, down, weights)
    inverse = t.new(pairs, INDEX)
    back = ops.index(t, weighed, weighed.numel, inverse)
    del weighed
    out = ops.total(t, back, width * run.rows)
    t.label = label
    return ops.cast(t, out, run.element if not run.plan.autocast else out.element)


def _between(run: Run, copies: Value, ends: Value, pairs: Quantity, ids: Value) -> Value:
    """Gate and up products, and what the gate makes of them."""
    t = run.tape
    fused = "expert_gate_up" in run.ops
    if not fused and "expert_gate" not in run.ops:
        return run.activation(_product(run, copies, "expert_up", ends, pairs, ids))
    both = _product(run, copies, "expert_gate_up" if fused else "expert_gate", ends, pairs, ids)
    del copies
    half = both.numel // 2
    if run.traits.clamped_gate:
        gate, up = ops.part(t, both, half), ops.part(t, both, half)
        del both
        gate = ops.clamp(t, gate, 1)
        up = ops.clamp(t, up)
        glu = ops.mul(t, gate, ops.saving_output(t, ops.scale(t, gate)))
        return ops.mul(t, ops.shift(t, up), glu)
    gate, up = ops.split(t, both, [half, half])
    del both
    return ops.mul(t, run.activation(gate), up)


def _product(run: Run, x: Value, role: str, ends: Value, pairs: Quantity, ids: Value) -> Value:
    """``grouped_mm``, one matrix for each expert's rows; a bias is looked up for each and added in place.

    transformers keeps gate and up of all experts in one matrix, however the checkpoint stores them.
    """
    t = run.tape
    roles = ("expert_gate", "expert_up") if role == "expert_gate" else (role,)
    run.used.update(roles)
    sinks = [run.weight(one) for one in roles]
    outs = sum(size(run.ops[one].out) for one in roles)
    node = t.node(x, *sinks)
    if node is not None:
        kept = [x] if any(node.needs(i + 1) for i in range(len(sinks))) else []
        t.save(node, *([WEIGHT] if node.needs(0) else []), ends, *kept)
    biases = None
    if (role, "bias") in run.tensors:
        biases = _rows_of(run, role, outs * pairs, ids)
    out = t.new(outs * pairs, x.element)
    sizes = [x.numel, *(sink.numel if sink is not None else 0 for sink in sinks)]
    element = x.element

    def back(g: Value, node: Node) -> list[Value | None]:
        return [t.new(n, element) if node.needs(i) else None for i, n in enumerate(sizes)]

    out = t.link(out, node, back)
    return ops.add_(t, out, biases) if biases is not None else out


def _rows_of(run: Run, role: str, numel: Quantity, ids: Value) -> Value:
    """``bias[ids]``: its gradient is added into zeros."""
    t, sink = run.tape, run.weight(role, "bias")
    node = t.node(sink)
    t.save(node, ids)
    whole = run.numel(role, "bias")
    made = t.new(numel, run.plan.weight_element)
    return t.link(made, node, lambda g, node: [t.new(whole, g.element)])
