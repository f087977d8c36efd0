"""The tensors of a rank's part of a model in the order in which they run, as DeepSpeed sees them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from llmcalc.memory.training.parallel.prefetch import EMBEDDING, HEAD, Place, Step, Weight, run_order
from llmcalc.model.inventory import Group, Inventory


class Tensors:
    """Modules of one class of ranks, and which of their tensors are trained.

    Parameters
    ----------
    model : Inventory
        One tensor rank's part of the model.
    layers : container of int
        Those of the pipeline's stage.
    plan : Training
        What is trained.
    embedding, head : bool
        Whether these are there too.

    Attributes
    ----------
    before, after : list
        Modules of the embedding (and of towers beside the text model) and of the head.
    layers : list of (int, list)
        Modules of each layer. A module is a list of weights.
    trained : list of (Place, int)
        Tensors that are trained, adapters included, in the order of the model: where their gradient is made,
        and elements.
    """

    __slots__ = ("after", "before", "layers", "stored", "trained")

    def __init__(
        self, model: Inventory, layers: Container[int], plan: Any, embedding: bool = True, head: bool = True
    ) -> None:
        self.before: list[list[Weight]] = []
        self.after: list[list[Weight]] = []
        self.layers: list[tuple[int, list[list[Weight]]]] = []
        self.trained: list[tuple[Place, int]] = []
        self.stored: dict[str, int] = {}
        found: dict[int, list[list[Weight]]] = {}
        trained: dict[int, list[tuple[Place, int]]] = {}
        table: list[Weight] = []
        for group in model.groups:
            if group.component != "text" or group.place == "embedding":
                if not embedding and not (head and group.component == "text"):
                    continue
                modules = list(_modules(group, None))
                table = table or [one for module in modules for one in module if ".embedding" in one[0]]
                self.before += modules * (group.count if group.component != "text" else 1)
                self.trained += self._trained(group, None, plan, ("backward", EMBEDDING))
            elif group.place == "head":
                if head:
                    self.after += _modules(group, None)
                    self.trained += self._trained(group, None, plan, ("loss", HEAD))
            else:
                for layer in group.layers:
                    if layer in layers:
                        found[layer] = list(_modules(group, layer))
                        trained[layer] = self._trained(group, layer, plan, ("backward", layer))
        ties = any(
            op.role == "embedding" for g in model.groups if g.place == "head" for op in g.ops
        )  # fmt: skip
        if ties and head and table:
            self.after.append(table)
        ends = [one for one in self.trained if one[0][0] == "loss"]
        self.trained = [one for one in self.trained if one[0][0] != "loss"]
        for layer in sorted(found):
            self.layers.append((layer, found[layer]))
            self.trained += trained[layer]
        self.trained += ends
        for one, number, shapes in plan.adapters():
            places = [layer for layer in one.group.layers if layer in layers] or [None]
            for place in range(number):
                where: Place = ("backward", places[place % len(places)])
                self.trained += [(where, int(_most(shape.numel))) for shape in shapes]
        for module in [*self.before, *self.after, *(m for _, layer in self.layers for m in layer)]:
            self.stored.update(module)

    def _trained(self, group: Group, layer: int | None, plan: Any, where: Place) -> list[tuple[Place, int]]:
        if plan.choice.leaves_model:
            return []
        number = 1 if layer is not None else group.count
        return [
            (where, tensor.numel)
            for _ in range(number)
            for tensor in group.tensors
            if tensor.tag == "main" and plan.trains(group, layer, tensor.role, tensor.part)
        ]

    def steps(self, again: bool, outside: bool) -> list[Step]:
        """Modules in the order of a step; `outside`: the loss multiplies with the head's weight itself."""
        after = [[one for one in module if not outside or "norm" in one[0]] for module in self.after]
        taken = [one for module in self.after for one in module if "norm" not in one[0]] if outside else []
        made = run_order(self.before, [modules for _, modules in self.layers], after, again, taken)
        index = [layer for layer, _ in self.layers]
        return [
            ((where[0], index[where[1]] if where[1] is not None and where[1] >= 0 else where[1]), weights, go)
            for where, weights, go in made
        ]

    def whole(self, threshold: int, most: int) -> int:
        """Elements of tensors so small that every rank keeps them whole. [-]"""
        total = 0
        adapters = [size for _, size in self.trained] if not self.stored else []
        for size in [*self.stored.values(), *adapters]:
            if size <= threshold and total + size <= most:
                total += size
        return total


def _modules(group: Group, layer: int | None) -> Iterator[list[Weight]]:
    """Weights of each module: matrices with their biases; the experts of a layer are one module."""
    found: dict[str, list[Weight]] = {}
    stem = f"{group.component}.{group.place}"
    if layer is not None:
        stem = f"shared {id(group)}" if group.stored is not None else f"{stem}.{layer}"
    for tensor in group.tensors:
        if tensor.tag == "main":
            role = "experts" if tensor.role.startswith("expert_") else tensor.role
            name = f"{stem}.{tensor.role}.{tensor.part}"
            found.setdefault(role, []).append((name, tensor.numel))
    yield from found.values()


def _most(value: Any) -> Any:
    return value.max() if hasattr(value, "max") else value
