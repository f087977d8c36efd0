"""Units of FSDP: what is gathered, computed with and scattered together, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.formula import Quantity, is_array
from llmcalc.memory.training.model_states import shard_of
from llmcalc.model.inventory import Group, Tensor

if TYPE_CHECKING:
    from llmcalc.memory.training.precisions import Recipe

WRAPS = ("layers", "all")
"""Units: each layer, and all else in the root's; or embedding and head too."""


class Policy:
    """How FSDP shares a model.

    Parameters
    ----------
    version : int
        1 (flat parameters) or 2 (each parameter by itself).
    recipe : Recipe
        What one trained parameter takes as it is kept.
    mixed : bool
        Whether parameters are gathered in 16 bit of shards in fp32.
    degree : int
        GPUs that share one copy; the others repeat it. [-]
    reduce : int or None
        Bytes of an element as gradients are summed; None is as they come. [B]
    reshard : bool or int
        Whether a layer is let go after its forward pass; a number of ranks keeps it shared among so few.
    root : bool or None
        The same of the root; None: it is kept.
    whole_gradients : bool
        Whether gradients stay whole on each rank until the last micro-batch.
    wrap : str
        One of `WRAPS`.
    outside : bool
        Whether the loss is computed outside of the model, after its forward pass.
    keeps_last : bool
        Whether the last layer is kept, which runs backward at once.
    offload : bool
        Whether shards lie on the host.
    """

    __slots__ = (
        "degree", "keeps_last", "mixed", "offload", "outside", "recipe", "reduce", "reshard", "root",
        "version", "whole_gradients", "wrap",
    )  # fmt: skip

    def __init__(
        self, version: int, recipe: Recipe, mixed: bool, degree: int, reduce: int | None = None,
        reshard: bool | int = True, root: bool | None = None, whole_gradients: bool = False,
        wrap: str = "layers", outside: bool = False, offload: bool = False, keeps_last: bool = False,
    ) -> None:  # fmt: skip
        self.version, self.recipe, self.mixed, self.degree = version, recipe, mixed, degree
        self.reduce, self.reshard, self.root, self.whole_gradients = reduce, reshard, root, whole_gradients
        self.wrap, self.outside, self.offload, self.keeps_last = wrap, outside, offload, keeps_last

    @property
    def name(self) -> str:
        """What it is called."""
        return f"FSDP{self.version}"

    @property
    def element(self) -> int:
        """Bytes of a parameter as it is computed with. [B]"""
        return self.recipe.element if self.mixed else self.recipe.weights

    @property
    def computed(self) -> Recipe:
        """What one trained parameter takes where it is computed with."""
        import copy

        made = copy.copy(self.recipe)
        made.weights = made.gradients = self.element
        made.autocast = False
        return made

    def widths(self, stored: int) -> tuple[int, int, int]:
        """Bytes of an element as it is computed with, summed and kept, of what is stored so wide. [B]"""
        compute = self.recipe.element if self.mixed else stored
        return compute, self.reduce or compute, stored

    @property
    def accumulates(self) -> bool:
        """Whether autograd adds to gradients that are there already."""
        return self.whole_gradients and (self.reduce is None or self.reduce == self.element)


class Unit:
    """One unit.

    Attributes
    ----------
    gathered : int or ndarray
        All of it as it is computed with, padding included. [B]
    cast : int or ndarray
        One rank's part of that, where it is not kept in that width. [B]
    own : int or ndarray
        Gradients as autograd makes them. [B]
    whole : int or ndarray
        Gradients as they are accumulated whole. [B]
    scattered : int or ndarray
        What is given to be summed, padding included. [B]
    last : int or ndarray
        Gradient of its last tensor, which is let go last. [B]
    out : int or ndarray
        One rank's part of the sum. [B]
    shard : int or ndarray
        The same as it is kept. [B]
    reshards : bool
        Whether it is let go after its forward pass.
    filled, narrows : bool
        Whether anything is in it; whether sums have another width than what is kept.
    tensors, parts : list of int
        Each tensor as it is gathered, and each trained one's part as it is kept. [B]
    """

    __slots__ = (
        "cast",
        "filled",
        "gathered",
        "last",
        "narrows",
        "out",
        "own",
        "parts",
        "reshards",
        "scattered",
        "shard",
        "tensors",
        "whole",
    )

    def __init__(self, reshards: bool = True) -> None:
        self.gathered: Quantity = 0
        self.cast: Quantity = 0
        self.own: Quantity = 0
        self.whole: Quantity = 0
        self.scattered: Quantity = 0
        self.last: Quantity = 0
        self.out: Quantity = 0
        self.shard: Quantity = 0
        self.reshards = reshards
        self.filled = self.narrows = False
        self.tensors: list[int] = []
        self.parts: list[int] = []

    def add(self, numel: Quantity, shard: Quantity, ranks: int, widths: tuple[int, int, int]) -> None:
        """A trained tensor of so many elements, of which a rank holds `shard`."""
        compute, reduce, kept = widths
        self.narrows = self.narrows or reduce != kept
        if not is_array(shard):
            self.parts.append(int(shard * kept))
        self.freeze(shard * ranks * compute, 0 if compute == kept else shard * compute)
        self.last = numel * compute
        self.own = self.own + self.last
        self.whole = self.whole + numel * reduce
        self.scattered = self.scattered + shard * ranks * reduce
        self.out, self.shard = self.out + shard * reduce, self.shard + shard * kept

    def freeze(self, gathered: Quantity, cast: Quantity) -> None:
        """A tensor that is not trained."""
        self.filled = True
        self.gathered, self.cast = self.gathered + gathered, self.cast + cast
        if not is_array(gathered):
            self.tensors.append(int(gathered))


class Units:
    """All units of a class of ranks.

    Parameters
    ----------
    ranks : Ranks
        One tensor rank's part of the model.
    stage : Stage
        Which layers.
    policy : Policy
        How they are shared.

    Attributes
    ----------
    root : Unit
        What is in no other unit.
    layers : dict
        By index.
    embedding, head : Unit
        Of those parts; the root itself unless they are units.
    late : int or ndarray
        Gradients of the root that come before any layer's: the head's. [B]
    scales : int
        Of packed weights, which every rank keeps whole. [B]
    """

    def __init__(self, ranks: Any, stage: Any, policy: Policy) -> None:
        self.policy, self.plan, self.question = policy, ranks.plan, ranks.question
        self.frozen = ranks.question.frozen()
        self.root = Unit(bool(policy.root))
        apart = policy.wrap == "all"
        self.embedding = Unit(bool(policy.reshard)) if apart else self.root
        self.head = Unit(False) if apart else self.root
        self.layers: dict[int, Unit] = {}
        self.late: Quantity = 0
        self.scales: Quantity = 0
        shown = {layer for span, _, _ in stage.chunks for layer in span}
        for layer in shown:
            last = layer == ranks.question.inventory.layers - 1
            self.layers[layer] = Unit(bool(policy.reshard) and not (last and policy.keeps_last))
        self._degrees(ranks.mesh, policy)
        for group in ranks.stored.groups:
            self._group(group, stage)
        self._adapters(stage)

    def _degrees(self, mesh: Any, policy: Policy) -> None:
        self.degree = min(policy.degree, mesh.replicas)
        self.expert_degree = min(policy.degree, mesh.expert_replicas) if mesh.ep > 1 else self.degree

    def cut_of(self, role: str) -> int:
        """Ranks that share a tensor. [-]"""
        return int(self.expert_degree if role.startswith("expert_") else self.degree)

    def _group(self, group: Group, stage: Any) -> None:
        if group.place == "layer" and group.component == "text":
            like: Unit | None = None
            for layer in group.layers:
                unit = self.layers.get(layer)
                if unit is None:
                    continue
                if like is None or not self.plan.alike:
                    like = Unit()
                    for tensor in group.tensors:
                        self._tensor(like, group, layer, tensor)
                _join(unit, like)
                self.scales += sum(self.frozen.scales(tensor) for tensor in group.tensors)
            return
        at_head = group.place == "head"
        if not (stage.is_last if at_head else stage.is_first):
            return
        unit = self.head if at_head else self.embedding if group.place == "embedding" else self.root
        for tensor in group.tensors:
            if at_head and tensor.role == "final_norm":
                unit = self.root
            before = unit.own
            self._tensor(unit, group, None, tensor)
            if at_head and unit is self.root:
                self.late = self.late + unit.own - before
            unit = self.head if at_head else unit

    def _tensor(self, unit: Unit, group: Group, layer: int | None, tensor: Tensor) -> None:
        if tensor.tag != "main":
            return
        policy, ranks = self.policy, self.cut_of(tensor.role)
        shard = shard_of(tensor, ranks)
        trained = self.plan.trains(group, layer, tensor.role, tensor.part)
        if trained and not self.plan.choice.leaves_model:
            unit.add(tensor.numel, shard, ranks, policy.widths(policy.recipe.weights))
            return
        held = self.frozen.cut(tensor, shard) - self.frozen.scales(tensor)
        if policy.mixed and not tensor.stored:
            narrow = shard * policy.element
            unit.freeze(narrow * ranks, 0 if narrow == held else narrow)
        else:
            unit.freeze(held * ranks, 0)
        if trained:  # a module trained beside adapters
            unit.add(tensor.numel, shard, ranks, policy.widths(policy.recipe.weights))

    def _adapters(self, stage: Any) -> None:
        """Adapters are in the unit of what they stand on."""
        plan, choice = self.plan, self.plan.choice
        if not choice.leaves_model:
            return
        from llmcalc.memory.training.targets import linears

        widths = self.policy.widths(self.question.asked.choice.adapter_bytes)
        for one in linears(plan.inventory):
            group = one.group
            layers: tuple[int | None, ...] = group.layers if group.place == "layer" else (None,)
            for layer in layers:
                unit = self.layers.get(layer) if layer is not None else self.head if stage.is_last else None
                if unit is None or plan.adapter(group, layer, one.role) is None:
                    continue
                for shape in plan.shapes(one):
                    cut = shape.cut(self.degree)
                    for _ in range(one.copies):
                        unit.add(shape.numel, cut.numel, self.degree, widths)


def _join(unit: Unit, other: Unit) -> None:
    unit.filled, unit.narrows = unit.filled or other.filled, unit.narrows or other.narrows
    unit.last = other.last
    for name in ("cast", "gathered", "out", "own", "parts", "scattered", "shard", "tensors", "whole"):
        setattr(unit, name, getattr(unit, name) + getattr(other, name))
