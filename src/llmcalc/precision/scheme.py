"""A scheme: which tensor is stored in which format, and an inventory stored so."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from llmcalc.errors import InputError, one_of
from llmcalc.model.dialects import is_apart, module_name
from llmcalc.model.inventory import FLOATS, Group, Inventory, Op, Tensor, dim, size
from llmcalc.precision.packing import METHODS, GroupError, Layout, Matrix

SMALL = ("delta_a", "delta_b", "index_weights", "index_compressor", "compressor_", "hc_")
"""Roles of small matrices that most methods leave alone: gates of a delta net, an indexer's weights."""

TOWERS = ("vision", "audio", "projector", "image_generator", "resampler")
"""Components other than the language model, which most methods leave alone."""


class Module:
    """A weight of one layer, as the rules of a scheme see it.

    Attributes
    ----------
    name : str
        Its Hugging Face module, experts as number 0: ``model.layers.3.mlp.experts.0.up_proj``.
    role, component : str
        As in the inventory.
    layer : int or None
        Its layer. [-]
    kind : str
        ``linear``, ``small``, ``head``, ``embedding``, ``router``, ``expert``, or ``other`` for what is no
        matrix.
    matrix : Matrix or None
        How a method packs it; None for ``other``.
    """

    __slots__ = ("component", "kind", "layer", "matrix", "name", "role", "tag")

    def __init__(self, group: Group, tensor: Tensor, layer: int | None, model: str, op: Op | None) -> None:
        self.name = module_name(group, tensor, layer)
        self.role, self.component, self.layer, self.tag = tensor.role, group.component, layer, tensor.tag
        self.kind, self.matrix = _kind(tensor, op), None
        if self.kind != "other":
            self.matrix = _matrix(tensor, op, model)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.kind}>"


def _kind(tensor: Tensor, op: Op | None) -> str:
    experts = bool(tensor.dims) and tensor.dims[0][0][:1] and tensor.dims[0][0][0][0] == "expert"
    body = len(tensor.dims) - (1 if experts and len(tensor.dims) > 2 else 0)
    if tensor.part not in ("weight", "") or body != 2:
        return "other"
    if tensor.role in ("embedding", "per_layer_embedding"):
        return "embedding" if tensor.part == "weight" else "other"
    if op is None or op.kind != "linear":
        return "other"
    if tensor.role == "unembedding":
        return "head"
    if tensor.role.startswith("expert_"):
        return "expert"
    if tensor.role in ("router", "shared_router"):
        return "router"
    return "small" if tensor.role.startswith(SMALL) else "linear"


def _matrix(tensor: Tensor, op: Op | None, model: str) -> Matrix:
    """Rows are outputs: some checkpoints store the transposed matrix."""
    *lead, out, inp = tensor.dims
    if op is not None and (out, inp) == (op.inp, op.out) and out != inp:
        out, inp = inp, out
    return Matrix(tensor.role, out, inp, tuple(lead), model)


def _forgotten(module: Module) -> Any:
    """The rules of a scheme that was pickled."""
    raise InputError("A copied or pickled scheme has lost its rules.", "Name it with --quant again.")


Chooser = Callable[[Module], "tuple[str, dict[str, Any]] | None"]
"""Packer and its options for a module; None leaves it in the model's dtype."""


class Scheme:
    """A rule from modules to formats.

    Parameters
    ----------
    name : str
        As shown: ``awq-4bit-g128``.
    choose : callable
        Packer and options of a module, or None.
    by_layer : bool
        Whether layers of one group may differ, as under lists of names.
    single : bool
        Whether experts of one layer may differ too.
    grade : str
        Of the bytes: ``exact`` where the layout is the method's own, else ``derived`` or ``assumed``.
    source : str
        Where the layout is described.

    Attributes
    ----------
    dense : callable or None
        What is chosen instead in a model without experts, where a scheme is made for them.
    parts : tuple of schemes
        Of a mix of two: that of all else, and that of the experts.
    skips : int
        Group of a method that leaves a matrix alone whose columns it does not divide; 0 of all others.
    dtype : str
        Of all that is not quantized, where the scheme names one.
    """

    __slots__ = (
        "by_layer", "choose", "dense", "dtype", "entry", "grade", "name", "notes", "parts", "single", "skips",
        "source",
        "unmatched",
    )  # fmt: skip

    def __init__(
        self, name: str, choose: Chooser, *, by_layer: bool = False, grade: str = "exact", source: str = ""
    ) -> None:
        self.name, self.choose, self.by_layer = name, choose, by_layer
        self.grade, self.source = grade, source
        self.notes: list[str] = []
        self.dense: Chooser | None = None
        self.entry: dict[str, Any] = {}
        self.parts: tuple[Any, ...] = ()
        self.skips = 0
        self.dtype, self.single = "", False
        self.unmatched: Callable[[], Iterable[str]] = tuple

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the rules, which are functions of a configuration: what was stored by them stays."""
        left = {name: getattr(self, name) for name in self.__slots__}
        return left | {"choose": _forgotten, "dense": None, "unmatched": tuple}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def apply(self, inventory: Inventory, model: str) -> Inventory:
        """The inventory with every tensor stored as the scheme says.

        Parameters
        ----------
        inventory : Inventory
            Left as it is.
        model : str
            Dtype of unquantized weights.
        """
        groups: list[Group] = []
        choose = self.dense if self.dense is not None and not inventory.routed_params else self.choose
        parts = inventory.groups
        if self.entry.get("unties"):
            parts = tuple(_untied(group, inventory, model, choose) for group in parts)
        try:
            for group in parts:
                groups += self._stored(group, model, choose)
        except GroupError as error:
            raise InputError(error.problem, self._remedy(inventory)) from None
        made = copy.copy(inventory)
        made.groups = tuple(groups)
        if parts != inventory.groups:
            made.loaded = (*inventory.loaded, "duplicate")
        self._tell(made)
        return made

    def _remedy(self, inventory: Inventory) -> str:
        """Which groups of this scheme divide the columns of all that it quantizes, if any do."""
        columns = {
            module.matrix.columns
            for group in inventory.groups
            for tensor in group.tensors
            if len(tensor.dims) > 1
            for module in [Module(group, tensor, (group.layers or (None,))[0], "bf16", _op(group, tensor))]
            if module.matrix is not None and self.choose(module) is not None
        }
        name = str(self.entry.get("name", ""))
        working = [
            f"{name}-g{size}" for size in self.entry.get("group") or []
            if size > 0 and not any(width % size for width in columns)
        ]  # fmt: skip
        if working:
            return f"Use --quant {one_of(working)}."
        return (
            f"No group of {name or 'this method'} divides them all; use --quant gptq, nf4 or q4_k_m, which "
            "take any number of columns."
        )

    def _tell(self, stored: Inventory) -> None:
        """Note a model of which nothing is quantized, or of which a group leaves matrices alone."""
        if self.name == "none":
            return
        large = [
            (group.count * tensor.numel, tensor, size(op.inp))
            for group in stored.groups
            for tensor in group.tensors
            for op in [_op(group, tensor)]
            if tensor.tag == "main" and len(tensor.dims) > 1 and op is not None
        ]
        left = [row for row in large if not row[1].stored]
        odd = [
            (number, columns) for number, tensor, columns in left
            if self.skips > 1 and columns % self.skips
            and not tensor.role.endswith("router") and tensor.role != "unembedding"
        ]  # fmt: skip
        note = ""
        if odd:
            number, share, width = sum(n for n, _ in odd), sum(row[0] for row in large), odd[0][1]
            note = (
                f"{self.name} leaves {number:,} of {share:,} elements of the linear layers in the model's "
                f"dtype: groups of {self.skips} do not divide {width:,} columns."
            )
        elif large and len(left) == len(large):
            note = f"Nothing of this model is quantized by {self.name}: no layer is of a kind that it takes."
        if note and note not in self.notes:
            self.notes.append(note)

    def _stored(self, group: Group, model: str, choose: Chooser) -> list[Group]:
        """A group, split where its layers are stored in different ways."""
        ops = {op.role: op for op in group.ops if op.kind == "linear"}
        tensors = [t for t in group.tensors if t.tag != "scale"]
        layers: list[int | None] = [*group.layers] if group.layers else [None]
        if not self.by_layer or group.stored is not None:
            layers = layers[:1]
        kinds: dict[Any, list[int]] = {}
        for layer in layers:
            chosen = tuple(
                self._choices(Module(group, t, layer, model, ops.get(t.role)), group, t, choose)
                if self.by_layer or len(t.dims) > 1
                else ((None, 0),)
                for t in tensors
            )
            kinds.setdefault(chosen, []).append(layer if layer is not None else -1)
        made = []
        for chosen, members in kinds.items():
            whole = len(kinds) == 1
            stored = [
                _repacked(group, _some(t, many), choice, model, ops.get(t.role))
                for t, choices in zip(tensors, chosen, strict=True)
                for choice, many in choices
            ]
            made.append(group.with_layers(group.layers if whole else tuple(members), stored))
        return made

    def _choices(
        self, module: Module, group: Group, tensor: Tensor, choose: Chooser
    ) -> tuple[tuple[Any, int], ...]:
        """What is chosen for a tensor: once, or for how many of its experts (0 stands for all)."""
        if not self.single or module.kind != "expert" or not is_apart(group, tensor):
            return ((_frozen(choose(module)), 0),)
        counts: dict[Any, int] = {}
        before, _, after = module.name.rpartition(".experts.0.")
        for expert in range(size(tensor.dims[0])):
            module.name = f"{before}.experts.{expert}.{after}"
            choice = _frozen(choose(module))
            counts[choice] = counts.get(choice, 0) + 1
        return tuple(counts.items()) if len(counts) > 1 else ((next(iter(counts)), 0),)


def _some(tensor: Tensor, many: int) -> Tensor:
    """A tensor of so many of its experts."""
    if not many:
        return tensor
    return Tensor(tensor.role, (dim(expert=many), *tensor.dims[1:]), tensor.part, tensor.tag, tensor.dtype)


def _untied(group: Group, inventory: Inventory, model: str, choose: Chooser) -> Group:
    """A head that shares the embedding, with a matrix of its own if the method quantizes heads."""
    tied = next((op for op in group.ops if group.place == "head" and op.role == "embedding"), None)
    table = next((t for g in inventory for t in g.tensors if t.role == "embedding"), None)
    if tied is None or table is None:
        return group
    op = Op(tied.kind, "unembedding", tied.out, tied.inp, tied.active, tied.stored, tied.window)
    head = Tensor("unembedding", table.dims, "weight", "duplicate")
    if choose(Module(group, head, None, model, op)) is None:
        return group
    made = group.with_layers(group.layers, (*group.tensors, head))
    made.ops = tuple(op if one is tied else one for one in group.ops)
    return made


def _op(group: Group, tensor: Tensor) -> Op | None:
    """The product that a tensor is the matrix of."""
    return next((op for op in group.ops if op.kind == "linear" and op.role == tensor.role), None)


def _frozen(choice: tuple[str, dict[str, Any]] | None) -> Any:
    return None if choice is None else (choice[0], tuple(sorted(choice[1].items())))


def _repacked(group: Group, tensor: Tensor, choice: Any, model: str, op: Op | None) -> Tensor:
    """A tensor as chosen; its own dtype is kept only where that is a float (fp32 norms stay fp32)."""
    if choice is None:
        kept = tensor.dtype if tensor.dtype in ("fp32", "fp64") else None
        return Tensor(tensor.role, tensor.dims, tensor.part, tensor.tag, kept)
    method, options = choice
    found = Module(group, tensor, None, model, op).matrix
    assert found is not None
    layout: Layout = METHODS[method](found, **dict(options))
    return Tensor(tensor.role, tensor.dims, tensor.part, tensor.tag, layout[0], layout[1])


PLAIN = Scheme("none", lambda module: None)
"""Weights as the model computes them."""


def plain(dtype: str) -> Scheme:
    """Unquantized weights in a dtype."""
    made = Scheme(dtype, lambda module: None)
    made.dtype = dtype
    return made


def retyped(inventory: Inventory) -> Inventory:
    """The model with all its floats in the dtype asked for; scales of quantized tensors keep theirs."""
    made = copy.copy(inventory)
    made.groups = tuple(
        group.with_layers(
            group.layers,
            [
                Tensor(t.role, t.dims, t.part, t.tag, None, t.stored)
                if t.dtype in FLOATS and t.tag != "scale"
                else t
                for t in group.tensors
            ],
        )
        for group in inventory.groups
    )
    return made


def nominal_bits(scheme: Any) -> Any:
    """Bits of a weight that a bare count is priced at: of a large matrix, or of a typical file. [bit]

    None for unquantized weights, which have those of their dtype.
    """
    from fractions import Fraction

    if not scheme.entry and (scheme.name == PLAIN.name or scheme.dtype):
        return None
    stated = scheme.entry.get("nominal")
    if stated is not None:
        return Fraction(str(stated))
    matrix = Matrix("up", ((("ffn", SIDE),),), ((("hidden", SIDE),),))
    module = Module.__new__(Module)
    module.name, module.role, module.component, module.layer = "up_proj", "up", "text", 0
    module.tag, module.kind, module.matrix = "main", "linear", matrix
    choice = scheme.choose(module)
    if choice is None:
        module.kind = "expert"
        choice = scheme.choose(module)
    if choice is None:
        return 16
    layout = METHODS[choice[0]](matrix, **choice[1])
    bits = sum(t.numel * WIDTHS[t.dtype or "bf16"] for t in layout[1])
    return Fraction(bits, SIDE * SIDE)


SIDE = 8192
"""Rows and columns of the matrix that nominal bits are those of. [elements]"""

WIDTHS = {
    "fp4": 4, "fp8": 8, "int8": 8, "uint8": 8, "fp16": 16, "bf16": 16, "int16": 16, "fp32": 32, "int32": 32,
    "uint32": 32, "int64": 64,
}  # fmt: skip
"""Bits of the words that packers store. [bit]"""
