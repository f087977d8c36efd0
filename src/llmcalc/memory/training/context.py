"""A stretch of the model on the tape: its weights, and the modules that all layers are built of."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, ceil_div
from llmcalc.memory.training import adapters, ops, recipes
from llmcalc.memory.training.parallel import tensors
from llmcalc.memory.training.plan import Plan
from llmcalc.memory.training.tape import Sink, Tape, Value
from llmcalc.memory.training.traits import Traits
from llmcalc.model.inventory import Group, Op, Tensor, size

NORMS, ATTENTION, SCORES, FFN = "norms", "attention", "scores", "feed-forward"
EXPERTS, STATES, ADAPTERS, COPIES, INPUTS = "experts", "states", "adapters", "cast copies", "inputs"


class Shared:
    """What all layers read: rotations, masks.

    Attributes
    ----------
    tables : dict
        Cosines and sines by the kind of layer.
    masks : dict
        Masks by window; None where kernels need none.
    padding : Value or None
        Which tokens are none.
    rotary : int
        Width of a head that rotates. [elements]
    """

    __slots__ = ("masks", "padding", "rotary", "tables")

    def __init__(self, rotary: int) -> None:
        self.rotary = rotary
        self.tables: dict[str, tuple[Value, Value]] = {}
        self.masks: dict[int | None, Value | None] = {}
        self.padding: Value | None = None


class Run:
    """One stretch: a layer, the embedding or the head.

    Parameters
    ----------
    tape : Tape
        Where operations are recorded.
    plan : Plan
        How the step is run.
    group : Group
        What the stretch consists of.
    layer : int or None
        Its index.
    traits : Traits
        Of the family.
    shared : Shared
        What all layers read.
    hidden : int
        Width of the model. [elements]

    Attributes
    ----------
    rows : int or ndarray
        Tokens of all sequences. [tokens]
    local : int or ndarray
        Of these, what the residual stream of this tensor rank holds. [tokens]
    single : bool
        Whether there is one sequence.
    casts : dict
        Autocast's copies of weights.
    lingering : list of Value
        What the layer's code names to its end.
    used : set of str
        Roles of matrices that have run.
    """

    __slots__ = (
        "_sinks", "batch", "casts", "element", "group", "hidden", "layer", "lingering", "local", "ops",
        "plan", "recipe", "rows", "seq", "shared", "single", "tape", "tensors", "traits", "used",
    )  # fmt: skip

    def __init__(
        self,
        tape: Tape,
        plan: Plan,
        group: Group,
        layer: int | None,
        traits: Traits,
        shared: Shared,
        hidden: int,
    ) -> None:
        self.tape, self.plan, self.group, self.layer = tape, plan, group, layer
        self.traits, self.shared, self.hidden = traits, shared, hidden
        self.recipe = recipes.RECIPES[plan.recipe]
        self.batch, self.seq, self.element = plan.batch, plan.seq, plan.element
        self.single = bool(plan.batch == 1) if isinstance(plan.batch, int) else bool((plan.batch == 1).all())
        self.rows: Quantity = plan.batch * plan.seq
        self.local: Quantity = ceil_div(self.rows, plan.shares_tokens)
        self.ops: dict[str, Op] = {op.role: op for op in group.ops}
        self.tensors: dict[tuple[str, str], Tensor] = {
            (t.role, t.part): t for t in group.tensors if t.tag == "main"
        }
        self._sinks: dict[tuple[str, str], Sink | None] = {}
        self.casts: dict[tuple[str, str], Value] = {}
        self.lingering: list[Value] = []
        self.used: set[str] = set()

    # -- weights -----------------------------------------------------------------------------

    def weight(self, role: str, part: str = "weight") -> Sink | None:
        """Where a parameter's gradient goes; None if it has none."""
        key = role, part
        if key not in self._sinks:
            tensor = self.tensors.get(key)
            sink = None
            if tensor is not None and self.plan.trains(self.group, self.layer, role, part):
                fused = self.recipe.fused_gradients and part == "weight" and self._multiplies(role)
                numel = 0 if fused else tensor.numel
                sink = Sink(numel, self.plan.grad_bytes(self.group, self.layer, role, part), role)
            self._sinks[key] = sink
        return self._sinks[key]

    def _multiplies(self, role: str) -> bool:
        """Whether the product that reads a matrix can add the gradient to where it is kept."""
        op = self.ops.get(role)
        return op is not None and op.kind == "linear" and role != "router"

    def adopt(self, role: str, sink: Sink | None) -> None:
        """Use another stretch's parameter, as a tied head does."""
        self._sinks[role, "weight"] = sink

    def numel(self, role: str, part: str = "weight") -> int:
        """Elements of a parameter, 0 if there is none. [-]"""
        tensor = self.tensors.get((role, part))
        return tensor.numel if tensor is not None else 0

    def out(self, role: str) -> int:
        """Elements that a matrix makes for each token. [-]"""
        self.used.add(role)
        return size(self.ops[role].out)

    def cast_weight(self, role: str, part: str) -> Any:
        """Autocast's 16-bit copy of a parameter, made once and kept to the end of the forward pass."""
        key = role, part
        if not self.numel(role, part):
            return None
        if key not in self.casts:
            t, sink = self.tape, self.weight(role, part)
            label, t.label = t.label, COPIES
            node = t.node(sink)
            made = t.link(t.new(self.numel(role, part), self.element), node, lambda g, node: [g])
            t.label = label
            if sink is None:
                return made  # only what trains is kept for the next use
            self.casts[key] = made
        return self.casts[key]

    # -- modules -----------------------------------------------------------------------------

    def joint(self, x: Value, roles: tuple[str, ...]) -> list[Value]:
        """Several matrices as one product, whose parts are views, with one adapter for all that have one."""
        t, rows, plan = self.tape, self.rows, self.plan
        sinks = [self.weight(role, part) for part in ("weight", "bias") for role in roles]
        packed = max(plan.dequant(self.group, self.layer, role) for role in roles)
        numels = [self.numel(role) for role in roles]
        node = t.node(x, *sinks)
        if node is not None:
            trains = any(node.needs(i + 1) for i in range(len(roles))) or (plan.keeps_inputs and packed > 0)
            t.save(node, *([x] if trains else []), *([None] if node.needs(0) else []))
        outs = [self.out(role) * rows for role in roles]
        twice = plan.recipe == "litgpt"  # Fabric packs what it has turned into fp16
        tile = ops.unpacked(t, packed * sum(numels), twice)
        whole = t.new(sum(outs[1:], outs[0]), x.element)
        del tile
        sizes = [x.numel, *(sink.numel if sink is not None else 0 for sink in sinks)]
        element = x.element

        def back(g: Value, node: Any) -> list[Any]:
            tile = ops.unpacked(t, packed * sum(numels), twice) if node.needs(0) else None
            made = [t.new(n, element) if node.needs(i) else None for i, n in enumerate(sizes)]
            del tile
            return made

        whole = adapters.beside(self, t.link(whole, node, back), x, roles)
        return ops.split(t, whole, outs)

    def enter(self, x: Value) -> Value:
        """What the matrices of a module read: all tensor ranks' tokens, unless each gathers them itself."""
        n = self.plan.shares_tokens
        if n == 1 or self.recipe.regathers:
            return x
        return tensors.gathered(self.tape, x, n)

    def joint_regathered(self, x: Value, roles: tuple[str, ...]) -> list[Value]:
        """Several matrices as one product that gathers its input itself."""
        t, outs = self.tape, [self.out(role) * self.rows for role in roles]
        sinks = [self.weight(role) for role in roles]
        at_head = self.layer is None
        whole = tensors.regathered(t, x, sinks, outs, self.plan.shares_tokens, at_head)
        return ops.split(t, whole, outs) if len(roles) > 1 else [whole]

    def linear(self, x: Value, role: str, rows: Quantity = None) -> Value:
        """A matrix with its bias and adapter, from 16 bit, autocast or packed weights."""
        t, plan = self.tape, self.plan
        spread = plan.shares_tokens
        if rows is None:
            rows = self.rows if role in tensors.COLUMN or role in tensors.ROW else self.local
        if self.recipe.regathers and role in tensors.COLUMN and self.plain((role,)):
            return self.joint_regathered(x, (role,))[0]
        packed = plan.dequant(self.group, self.layer, role)
        weight: Any = self.weight(role)
        bias: Any = self.weight(role, "bias")
        source, narrow = x, x.element
        if packed:
            x = ops.cast(t, x, self.element)
        elif plan.autocast:
            x = ops.cast(t, x, self.element)
            if plan.weight_element != self.element:
                weight, bias = self.cast_weight(role, "weight"), self.cast_weight(role, "bias")
        y = ops.linear(
            t,
            x,
            weight,
            bias,
            self.out(role),
            rows,
            size=weight.numel if weight is not None else 0,
            packed=packed * self.numel(role),
            twice=plan.recipe == "litgpt",
            keeps=plan.keeps_inputs and packed > 0,
        )
        if packed:
            y = ops.cast(t, y, narrow)
        del x
        adapter = plan.adapter(self.group, self.layer, role)
        if adapter is not None:
            y = adapters.adapted(self, y, source, role, adapter, rows)
        return tensors.scattered(t, y, spread) if spread > 1 and role in tensors.ROW else y

    def plain(self, roles: tuple[str, ...]) -> bool:
        """Whether matrices are in 16 bit, without adapters."""
        plan = self.plan
        return not plan.autocast and all(
            not plan.dequant(self.group, self.layer, role)
            and plan.adapter(self.group, self.layer, role) is None
            for role in roles
        )

    def norm(self, x: Value, role: str, vectors: Quantity = None, kind: str = "") -> Value:
        """The norm of that role over each of so many `vectors`: tokens, or their heads."""
        t = self.tape
        label, t.label = t.label, NORMS
        vectors = self.local if vectors is None else vectors
        weight, element = self.weight(role), self.plan.weight_element
        kind = kind or self.traits.norm
        if self.numel(role, "bias") and not kind.endswith("layer"):
            kind = "layer"
        if self.recipe.norm in ("in-place", "fused"):
            over = self.recipe.norm == "in-place" and kind == "llama"
            out = recipes.fused_norm(t, x, weight, self.weight(role, "bias"), vectors, over)
        elif self.recipe.norm == "narrow" and kind != "layer":
            factor = self._narrow_one_plus(role) if kind == "gemma" else weight
            out = recipes.narrow_norm(t, x, factor, element, vectors)
        elif kind == "cast":
            scaled = self._scaled(ops.cast(t, x, 4), vectors)
            out = ops.cast(t, ops.mul(t, scaled, self._wide_weight(role)), x.element)
        elif kind.endswith("layer"):
            element = x.element if not self.plan.autocast else 4
            narrow, element = x.element, 4 if kind == "wide-layer" else element
            x = ops.cast(t, x, element)
            factor = self._narrow_one_plus(role) if kind == "plus-layer" else weight
            out = ops.layer_norm(t, x, factor, self.weight(role, "bias"), vectors, element)
            out = ops.cast(t, out, narrow) if kind == "wide-layer" else out
        elif kind == "gemma":
            scaled = self._scaled(ops.cast(t, x, 4), vectors)
            out = ops.cast(t, ops.mul(t, scaled, self._one_plus(role)), x.element)
        elif kind == "centred":
            wide = ops.cast(t, x, 4)
            centred = self._centred(wide, vectors)
            inverse = ops.saving_output(t, ops.shift(t, ops.mean(t, ops.power(t, centred), vectors)))
            del centred
            scaled = ops.mul(t, self._centred(wide, vectors), inverse)
            del wide, inverse
            out = ops.cast(t, ops.mul(t, scaled, self._wide_weight(role)), x.element)
        elif kind == "wide":
            scaled = self._scaled(ops.cast(t, x, 4), vectors)
            out = ops.cast(t, ops.weigh(t, scaled, weight, element), x.element)
        else:
            scaled = self._scaled(ops.cast(t, x, 4), vectors)
            out = ops.weigh(t, ops.cast(t, scaled, x.element), weight, element)
        t.label = label
        return out

    def _scaled(self, x: Value, vectors: Quantity) -> Value:
        """``x * rsqrt(mean(x ** 2) + eps)``."""
        t = self.tape
        return ops.mul(t, x, ops.saving_output(t, ops.shift(t, ops.mean(t, ops.power(t, x), vectors))))

    def _centred(self, x: Value, vectors: Quantity) -> Value:
        """``x - mean(x)``."""
        t = self.tape
        middle = ops.mean(t, x, vectors)
        node = t.node(x, middle)
        return t.link(t.like(x), node, lambda g, node: [g, t.like(g)])

    def _wide_weight(self, role: str) -> Value:
        """``weight.float()``; a weight in fp32 takes no memory of its own."""
        t, sink, numel = self.tape, self.weight(role), self.numel(role)
        if self.plan.weight_element == 4:
            return t.link(Value(t.new(0, 4).storage, numel, 4), t.node(sink), lambda g, node: [g])
        return t.link(t.new(numel, 4), t.node(sink), lambda g, node: [g])

    def _narrow_one_plus(self, role: str) -> Value:
        """``1 + weight``."""
        t, node = self.tape, self.tape.node(self.weight(role))
        return t.link(t.new(self.numel(role), self.plan.weight_element), node, lambda g, node: [g])

    def _one_plus(self, role: str) -> Value:
        """``1 + weight.float()``."""
        t, sink, numel = self.tape, self.weight(role), self.numel(role)
        wide = None
        if self.plan.weight_element < 4:
            wide = t.link(t.new(numel, 4), t.node(sink), lambda g, node: [g])
        node = t.node(wide if wide is not None else sink)
        return t.link(t.new(numel, 4), node, lambda g, node: [g])

    def activation(self, x: Value) -> Value:
        """The feed-forward layer's elementwise function."""
        t, kind = self.tape, self.traits.activation
        if kind == "long" and self.plan.recipe != "litgpt":  # which has one kernel for it
            inner = ops.scale(t, ops.add(t, x, ops.scale(t, ops.power(t, x))))
            return ops.mul(t, ops.scale(t, x), ops.shift(t, ops.saving_output(t, inner)))
        if kind == "squared":
            return ops.power(t, ops.saving_output(t, x))
        if kind == "sigmoid":
            return ops.mul(t, x, ops.saving_output(t, ops.scale(t, x)))
        return ops.saving_output(t, x) if kind == "output" else ops.saving_input(t, x)
