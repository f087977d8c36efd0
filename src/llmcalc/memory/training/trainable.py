"""What is trained of a model: all of it, a part, or adapters beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmcalc.errors import InputError, did_you_mean
from llmcalc.formula import Quantity
from llmcalc.memory.training.optimizers import Shape
from llmcalc.memory.training.plan import Adapter, Plan
from llmcalc.memory.training.precisions import Recipe
from llmcalc.model.inventory import Group, Inventory, size

if TYPE_CHECKING:  # names of modules are looked at where there are adapters alone
    from llmcalc.memory.training.targets import Key, Linear

METHODS = ("full", "lora", "qlora", "dora", "freeze", "prompt", "prefix", "bottleneck")
ADAPTED = ("lora", "qlora", "dora", "bottleneck")
"""Methods that put adapters on linears."""

PARAMETER_EFFICIENT = (*ADAPTED, "prompt", "prefix")
"""Methods that leave the model itself as it is."""

MATRIX = frozenset({"all", "matrix", "hidden"})
VECTOR = frozenset({"all", "vector", "outside"})


class Choice:
    """What is trained, as resolved.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    targets : dict
        Linears that carry an adapter, with the parts of a fused one.
    rank : int or ndarray
        Of an adapter, or the inner width of a bottleneck. [-]
    adapter_bytes : int
        Of an element of an adapter. [B]
    dropout : bool
        Whether inputs of adapters go through dropout.
    saved : tuple of str
        Modules trained whole beside adapters, of which the frozen original stays (``modules_to_save``).
    trained, frozen : tuple of str
        Words that name the part trained, or left out.
    last_layers : int or None
        Layers from the end that are trained or adapted. [-]
    tokens : int
        Virtual tokens of a prompt or prefix. [tokens]
    """

    __slots__ = (
        "adapter_bytes",
        "dropout",
        "frozen",
        "last_layers",
        "method",
        "rank",
        "saved",
        "targets",
        "tokens",
        "trained",
    )

    def __init__(self, method: str = "full") -> None:
        self.method = method
        self.targets: dict[Key, tuple[int, ...]] = {}
        self.rank: Quantity = 16
        self.adapter_bytes, self.dropout = 4, False
        self.saved: tuple[str, ...] = ()
        self.trained: tuple[str, ...] = ()
        self.frozen: tuple[str, ...] = ()
        self.last_layers: int | None = None
        self.tokens = 0

    def with_rank(self, rank: Quantity) -> Choice:
        """The same with adapters of another rank."""
        made = Choice(self.method)
        for name in self.__slots__:
            setattr(made, name, getattr(self, name))
        made.rank = rank
        return made

    @property
    def leaves_model(self) -> bool:
        """Whether the model itself stays as it is."""
        return self.method in PARAMETER_EFFICIENT


class Training(Plan):
    """A plan that knows what is trained.

    Parameters
    ----------
    inventory : Inventory
        The model as it is executed.
    choice : Choice
        What is trained.
    recipe : Recipe
        Bytes of what is trained.
    packed : set
        Keys of the linears that are stored quantized.
    **settings
        Attributes of the plan.
    """

    def __init__(
        self, inventory: Inventory, choice: Choice, states: Recipe, packed: frozenset[Key], **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.inventory, self.choice, self.states, self.packed = inventory, choice, states, packed
        self.layers = inventory.layers
        self._adapter: Adapter | None = None
        if choice.method in ADAPTED:
            kind = choice.method if choice.method in ("dora", "bottleneck") else "lora"
            self._adapter = Adapter(kind, choice.rank, choice.adapter_bytes, choice.dropout)

    @property
    def alike(self) -> bool:
        """Whether all layers of a group are trained alike: no word and no number tells them apart."""
        choice = self.choice
        words = (*choice.trained, *choice.frozen, *choice.saved)
        return choice.last_layers is None and not any(word[-1:].isdigit() for word in words)

    def trains(self, group: Group, layer: int | None, role: str, part: str) -> bool:
        """Whether a tensor of the model gets a gradient."""
        choice = self.choice
        if choice.leaves_model:
            return any(selects(word, self.layers, group, layer, role, part) for word in choice.saved)
        if choice.method == "full" and not choice.frozen:
            return True
        if any(selects(word, self.layers, group, layer, role, part) for word in choice.frozen):
            return False
        if not choice.trained:
            return True
        return any(selects(word, self.layers, group, layer, role, part) for word in choice.trained)

    def adapter(self, group: Group, layer: int | None, role: str) -> Adapter | None:
        """The adapter on a linear, if there is one."""
        if self._adapter is None or not self._chosen(group, layer):
            return None
        if role == "embedding" and group.place == "head":
            role = "unembedding"
        parts = self.choice.targets.get((group.component, group.place, role))
        if parts is None:
            return None
        if parts:
            one, op = self._adapter, next(op for op in group.ops if op.role == role)
            outputs = tuple(size((op.out[part],)) for part in parts)
            return Adapter(one.kind, one.rank, one.bytes, one.dropout, outputs)
        return self._adapter

    def _chosen(self, group: Group, layer: int | None) -> bool:
        last = self.choice.last_layers
        if last is None or group.place != "layer" or group.component != "text" or layer is None:
            return True
        return layer >= self.layers - last

    def dequant(self, group: Group, layer: int | None, role: str) -> int:
        """Bytes of an element of the matrix that is unpacked where it is used; 0 if it is not packed. [B]"""
        return self.element if (group.component, group.place, role) in self.packed else 0

    def grad_bytes(self, group: Group, layer: int | None, role: str, part: str) -> int:
        """Bytes of an element of a tensor's gradient. [B]"""
        return self.states.gradients

    def adapters(self) -> Iterator[tuple[Linear, int, list[Shape]]]:
        """Each adapted linear, how many of it there are, and the tensors of its adapter."""
        if self._adapter is None:
            return
        from llmcalc.memory.training.targets import linears

        for one in linears(self.inventory):
            group = one.group
            layers: tuple[int | None, ...] = group.layers if group.place == "layer" else (None,)
            number = sum(self.adapter(group, layer, one.role) is not None for layer in layers)
            if group.stored is not None:
                number = min(number, group.stored)
            if number:
                yield one, number * one.copies, self.shapes(one)

    def shapes(self, one: Linear) -> list[Shape]:
        """Tensors of the adapter on a linear."""
        rank, method = self.choice.rank, self.choice.method
        if method == "bottleneck":
            return [
                Shape(1, rank, one.outputs, MATRIX),
                Shape(1, rank, 1, VECTOR),
                Shape(1, one.outputs, rank, MATRIX),
                Shape(1, one.outputs, 1, VECTOR),
            ]
        parts = self.choice.targets[one.key]
        outputs = one.outputs
        if parts:
            outputs = sum(size((one.op.out[part],)) for part in parts)
        down = Shape(1, rank * max(len(parts), 1), one.inputs, MATRIX)
        found = [down, Shape(1, outputs, rank, MATRIX)]
        if method == "dora":
            found.append(Shape(1, outputs, 1, VECTOR))
        return found

    def virtual(self) -> list[Shape]:
        """The tensors of a trained prompt or prefix."""
        choice = self.choice
        if choice.method == "prompt":
            table = next(t for g in self.inventory for t in g.tensors if t.role == "embedding")
            return [
                Shape(1, choice.tokens, table.shape[-1], frozenset({"all", "matrix", "embedding", "outside"}))
            ]
        if choice.method == "prefix":
            width = sum(
                size(part)
                for _, cache in self.inventory.caches
                if not cache.is_state
                for _, part in cache.parts
            )
            if not width:
                raise InputError(
                    f"{self.inventory.name} has no attention for a prefix.", "Use --method lora or prompt."
                )
            return [Shape(1, choice.tokens, width, frozenset({"all", "matrix", "embedding", "outside"}))]
        return []


def selects(word: str, layers: int, group: Group, layer: int | None, role: str, part: str) -> bool:
    """Whether a word of ``--trainable`` or ``--freeze`` means a tensor.

    Examples
    --------
    >>> from llmcalc.model.inventory import Group
    >>> block = Group("text", "layer", tuple(range(32)), [])
    >>> selects("last-8", 32, block, 24, "up", "weight"), selects("last-8", 32, block, 23, "up", "weight")
    (True, False)
    """
    in_layers = group.place == "layer" and group.component == "text"
    start, _, number = word.partition("-")
    if number.isdigit() and start in ("last", "first"):
        count = int(number)
        return (
            in_layers
            and layer is not None
            and (layer >= layers - count if start == "last" else layer < count)
        )
    if word in ("head", "lm_head"):
        return role == "unembedding" or (group.place == "head" and role == "embedding")
    if word in ("embedding", "embeddings", "embed_tokens"):
        return role in ("embedding", "position", "segment")
    if word == "norms":
        return role.endswith("norm") or role.startswith("ln_")
    if word == "bias":
        return part == "bias"
    if word in ("layers", "experts", "router"):
        return (
            in_layers if word == "layers" else role.startswith("expert_" if word == "experts" else "router")
        )
    if word == "towers":
        return group.component not in ("text", "mtp")
    if word == group.component or word == role:
        return True
    held = next((t for t in group.tensors if t.role == role), None)
    if held is None:
        return False
    from llmcalc.model.dialects import module_name

    name = module_name(group, held, layer)
    return name == word or name.endswith(f".{word}")


WORDS = ("last-N", "first-N", "layers", "head", "embedding", "norms", "bias", "experts", "router", "towers")


def check_words(words: tuple[str, ...], inventory: Inventory, option: str) -> None:
    """Refuse a word that selects nothing.

    Raises
    ------
    InputError
        With the nearest word.
    """
    for word in words:
        start, _, number = word.partition("-")
        if start in ("last", "first") and number.isdigit() and not 1 <= int(number) <= inventory.layers:
            raise InputError(
                f"{option} {word}: {inventory.name} has {inventory.layers} layers.",
                f"Use {start}-1 to {start}-{inventory.layers}.",
            )
        if not any(
            selects(word, inventory.layers, group, layer, tensor.role, tensor.part)
            for group in inventory.groups
            for layer in (group.layers or (None,))
            for tensor in group.tensors
        ):
            components = list(dict.fromkeys(g.component for g in inventory.groups))
            near = did_you_mean(word, [*WORDS, *components], 1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise InputError(
                f"{option} {word[:40]!r} is no part of {inventory.name}.",
                f"{hint}Use {', '.join([*WORDS, *components])}, or a module's name.",
            )
