"""What lies in memory from one step to the next: weights, copies, gradients, states of the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmcalc.formula import Quantity, ceil_div, is_array, larger
from llmcalc.memory.training.optimizers import Optimizer, Shape, shape_of
from llmcalc.memory.training.precisions import Recipe
from llmcalc.memory.training.trainable import Training
from llmcalc.model.inventory import FLOATS, Group, Inventory, Tensor
from llmcalc.model.inventory import size as length

if TYPE_CHECKING:
    from llmcalc.memory.training.targets import Key

ELEMENT = {"fp32": 4, "fp64": 8}


class States:
    """Bytes that a model and what is trained of it take.

    Attributes
    ----------
    weights : dict
        By what they are: trained, frozen, quantized, adapters ... [B]
    master, gradients : int or ndarray
        Of all that is trained, the gradients all at once. [B]
    optimizer : dict
        Each state by name, on the device. [B]
    paged : int or ndarray
        States in managed memory, which may lie on the host. [B]
    trained, total : int or ndarray
        Parameters trained, and of the model with adapters. [-]
    trained_bytes : int or ndarray
        Bytes of the trained parameters as the optimizer updates them. [B]
    largest, largest_gradient : int or ndarray
        Elements of the largest trained tensor, and bytes of its gradient. [-], [B]
    element : int
        Bytes of a parameter that the optimizer updates. [B]
    saved : int or ndarray
        Bytes of the trained part in a checkpoint's model file. [B]
    small : int
        Tensors too small for narrow states. [-]
    largest_frozen : int
        Bytes of the largest weight as it is loaded in 16 bit. [B]
    """

    __slots__ = (
        "element",
        "gradients",
        "largest",
        "largest_frozen",
        "largest_gradient",
        "master",
        "optimizer",
        "paged",
        "saved",
        "small",
        "total",
        "trained",
        "trained_bytes",
        "weights",
    )

    def __init__(self) -> None:
        self.weights: dict[str, Quantity] = {}
        self.master: Quantity = 0
        self.gradients: Quantity = 0
        self.optimizer: dict[str, Quantity] = {}
        self.paged: Quantity = 0
        self.trained: Quantity = 0
        self.total: Quantity = 0
        self.trained_bytes: Quantity = 0
        self.largest: Quantity = 0
        self.largest_gradient: Quantity = 0
        self.element = 4
        self.saved: Quantity = 0
        self.small = 0
        self.largest_frozen = 0

    def weigh(self, label: str, bytes_: Quantity) -> None:
        """Add weights under a label."""
        if is_array(bytes_) or bytes_:
            self.weights[label] = self.weights.get(label, 0) + bytes_

    def train(
        self,
        shape: Shape,
        count: int,
        optimizer: Optimizer,
        weight: int,
        gradient: int,
        master: int,
        state: int,
    ) -> None:
        """Add `count` trained tensors: gradient, master copy and states; the weights are weighed apart."""
        number = count * shape.numel
        self.trained = self.trained + number
        self.trained_bytes = self.trained_bytes + number * (4 if master else weight)
        self.gradients = self.gradients + number * gradient
        self.master = self.master + number * master
        self.largest = larger(self.largest, shape.numel)
        self.largest_gradient = larger(self.largest_gradient, shape.numel * gradient)
        self.element = 4 if master else weight
        self.saved = self.saved + number * weight
        self.small += count if optimizer.is_small(shape) else 0
        for name, size, resident in optimizer.states(shape, state):
            if resident:
                self.optimizer[name] = self.optimizer.get(name, 0) + count * size
            else:
                self.paged = self.paged + count * size


Bits = Callable[[str], Any]
"""Bits of a stored format by its name. [bit]"""


class Frozen:
    """How what is not trained is stored.

    Attributes
    ----------
    element : int
        Bytes of an unquantized weight. [B]
    label : str
        Its dtype.
    quant : str
        Name of the scheme, empty where there is none.
    upcast : bool
        Whether what is not quantized is cast to fp32, as PEFT prepares models for k-bit training.
    bits : callable
        Bits of a stored format by its name.
    """

    __slots__ = ("bits", "element", "label", "quant", "upcast")

    def __init__(self, element: int, label: str, bits: Bits, quant: str = "", upcast: bool = False) -> None:
        self.element, self.label, self.bits, self.quant, self.upcast = element, label, bits, quant, upcast

    def bytes(self, tensor: Tensor) -> int:
        """Bytes of one tensor that is not trained. [B]"""
        if tensor.stored:
            return sum(int(ceil_div(part.numel * self.bits(part.dtype or ""), 8)) for part in tensor.stored)
        if tensor.dtype is not None and tensor.dtype not in FLOATS:
            return int(ceil_div(tensor.numel * self.bits(tensor.dtype), 8))
        if self.upcast:
            return 4 * tensor.numel
        return tensor.numel * ELEMENT.get(tensor.dtype or "", self.element)

    def cut(self, tensor: Tensor, numel: int) -> int:
        """The same of a rank that holds so many of its elements; scales of a packed tensor stay whole. [B]"""
        if len(tensor.stored) > 1:
            main = max(tensor.stored, key=lambda part: part.numel)
            packed = int(ceil_div(main.numel * self.bits(main.dtype or ""), 8))
            return self.bytes(tensor) - packed + int(ceil_div(packed * numel, max(tensor.numel, 1)))
        return int(ceil_div(self.bytes(tensor) * numel, max(tensor.numel, 1)))

    def scales(self, tensor: Tensor) -> int:
        """Bytes of a packed tensor's scales, which are no parameters. [B]"""
        return self.cut(tensor, 0) if len(tensor.stored) > 1 else 0

    def name(self, tensor: Tensor) -> str:
        """The label of a tensor that is not trained."""
        if tensor.stored:
            return f"{self.quant or 'quantized'}, frozen"
        return "fp32 (cast for k-bit training), frozen" if self.upcast else f"{self.label}, frozen"


def fold(
    stored: Inventory, plan: Training, optimizer: Optimizer, frozen: Frozen, ema: bool = False, cut: int = 1
) -> States:
    """Add up what lies in memory from one step to the next.

    Parameters
    ----------
    stored : Inventory
        The model as its frozen weights are stored.
    plan : Training
        What is trained.
    optimizer : Optimizer
        What updates it.
    frozen : Frozen
        How the rest is stored.
    ema : bool
        Whether an average of the trained weights is kept.
    cut : int
        Ranks among which the first dimension of each tensor is cut, the last of which are padded. [-]
    """
    made, recipe = States(), plan.states
    for group in stored.groups:
        for tensor in group.tensors:
            if tensor.tag in stored.loaded:
                _base(made, group, tensor, plan, optimizer, frozen, cut)
    _beside(made, plan, optimizer, recipe, cut)
    if ema:
        made.weigh("moving average", made.trained * recipe.weights)
    return made


def _base(
    made: States, group: Group, tensor: Tensor, plan: Training, optimizer: Optimizer, frozen: Frozen, cut: int
) -> None:
    """A tensor of the model, of which some layers may be trained and others not."""
    recipe, count = plan.states, group.count
    layers: tuple[int | None, ...] = group.layers if group.place == "layer" else (None,)
    trained = sum(plan.trains(group, layer, tensor.role, tensor.part) for layer in layers)
    trained = min(trained, count)
    whole = plan.choice.leaves_model  # modules trained beside adapters leave a frozen original behind
    left = count if whole else count - trained
    numel = tensor.numel if cut == 1 else shard_of(tensor, cut)
    if tensor.tag == "main":
        made.total = made.total + count * numel
    if left:
        whole_bytes = frozen.bytes(tensor)
        held = whole_bytes if cut == 1 else frozen.cut(tensor, numel)
        made.weigh(frozen.name(tensor), left * held)
        made.largest_frozen = max(made.largest_frozen, 2 * tensor.numel)
    if not trained:
        return
    label = "modules trained whole" if whole else f"{DTYPES[recipe.weights]}, trained"
    made.weigh(label, trained * numel * recipe.weights)
    if recipe.copies and len(tensor.dims) > 1 and group.place == "layer":
        made.weigh("fp8 copies", trained * numel * recipe.copies)
    shape = shape_of(tensor.role, tensor.dims, group.place, group.component)
    shape = shape if cut == 1 else shape.cut(cut)
    made.train(
        shape,
        trained,
        optimizer,
        recipe.weights,
        plan.grad_bytes(group, None, tensor.role, tensor.part),
        recipe.master,
        recipe.state_element,
    )


def shard_of(tensor: Tensor, cut: int) -> int:
    """Elements of one rank's part where the first dimension is cut and padded. [-]"""
    first = length(tensor.dims[0]) if tensor.dims else 1
    return int(ceil_div(first, cut)) * (tensor.numel // max(first, 1))


DTYPES = {2: "16 bit", 4: "fp32"}


def _beside(made: States, plan: Training, optimizer: Optimizer, recipe: Recipe, cut: int) -> None:
    """Adapters, prompts and prefixes: of their own dtype, with states alike."""
    own = plan.choice.adapter_bytes
    # Recipes that keep 16-bit parameters with fp32 copies or states do so for adapters too.
    master = recipe.master if own == 2 else 0
    state = own if recipe.states is None else max(own, recipe.states)

    def add(label: str, shapes: list[Shape], number: int) -> None:
        for shape in shapes if cut == 1 else [one.cut(cut) for one in shapes]:
            made.weigh(label, number * shape.numel * own)
            made.total = made.total + number * shape.numel
            made.train(shape, number, optimizer, own, own, master, state)

    label = f"adapters, {DTYPES[own]}"
    for _, number, shapes in plan.adapters():
        add(label, shapes, number)
    virtual = plan.virtual()
    if virtual:
        add(f"virtual tokens, {DTYPES[own]}", virtual, 1)


def packed(stored: Inventory) -> frozenset[Key]:
    """Keys of the linears that a model stores quantized."""
    return frozenset(
        (group.component, group.place, tensor.role)
        for group in stored.groups
        for tensor in group.tensors
        if tensor.stored or (tensor.dtype is not None and tensor.dtype not in FLOATS)
    )
