"""Frozen models beside the trained one on several GPUs: a reference for preferences, a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.heads import vocabulary
from llmcalc.errors import InputError
from llmcalc.estimate import add_up
from llmcalc.formula import Quantity, ceil_div
from llmcalc.memory.training.parallel.mesh import check_mesh
from llmcalc.memory.training.parallel.pipeline import Stage, stages
from llmcalc.memory.training.parallel.slices import part_of
from llmcalc.model.inventory import Inventory

if TYPE_CHECKING:
    from llmcalc.answer.training.many import Ranks


def check_beside(asked: Any, label: str, model: Inventory) -> None:
    """Refuse a layout that a frozen model does not allow.

    Raises
    ------
    InputError
        With what would do.
    """
    if asked.mesh is None:
        return
    if asked.zero is not None and asked.zero.params.device == "nvme":
        raise InputError(f"Weights of a {label} on NVMe are not modelled.", "Use --offload-to cpu.")
    try:
        check_mesh(asked.mesh, model, asked.implementation == "megatron")
    except InputError as error:
        raise InputError(
            f"The {label}: {error.problem}", f"{error.remedy} Or name models that share one layout."
        ) from None


class Beside:
    """One frozen model on one class of ranks.

    Parameters
    ----------
    ranks : Ranks
        The trained model's ranks, whose layout it has.
    stage : Stage
        Which class.
    sharding : Sharding
        How states are shared: where weights are, those of frozen models are too, as TRL sets its reference
        up; else every replica holds them whole.
    label, model : str, Inventory
        What it is.

    Attributes
    ----------
    weights : int
        What one rank keeps. [B]
    gathered : int
        What it holds of other ranks' parts while it runs forward. [B]
    forward : int or ndarray
        Its logits, and the widest layer's temporaries. [B]
    """

    def __init__(self, ranks: Ranks, stage: Stage, sharding: Any, label: str, model: Inventory) -> None:
        mesh, asked = ranks.mesh, ranks.question.asked
        self.element = asked.dtype.block_bytes // asked.dtype.elements
        own = stages(mesh, model.layers)[stage.index]
        layers = frozenset(layer for span, _, _ in own.chunks for layer in span)
        slice_ = ranks.sliced(model)
        self.weights: int = 0
        shares = "weights" in sharding.shared
        for experts, replicas in ((False, mesh.replicas), (True, mesh.expert_replicas)):
            if experts and mesh.ep == 1:
                continue
            only = experts if mesh.ep > 1 else None
            part = part_of(slice_, layers, own.is_first, own.is_last, only)
            among = _among(sharding, replicas) if shares else 1
            self.weights += ceil_div(part.params, among) * self.element
        here = part_of(slice_, layers, own.is_first, own.is_last)
        away = "params" in asked.offload
        self.gathered = self._gathered(here, asked) if away or (shares and mesh.replicas > 1) else 0
        self.forward = self._forward(ranks, own, label, model, here)

    def _gathered(self, here: Inventory, asked: Any) -> int:
        """What is whole at once: FSDP's root and two layers; with ZeRO a tensor, and those fetched ahead."""
        sizes = [(g, [t.numel for t in g.tensors if t.tag == "main"]) for g in here.groups]
        if asked.zero is not None:
            tensors = [one for _, each in sizes for one in each]
            ahead = min(asked.zero.prefetch_bucket, sum(tensors))
            return int((max(tensors, default=0) + ahead) * self.element)
        policy = asked.policy
        if policy is not None and policy.reshard is False:
            return here.params * self.element
        layers = [sum(each) for g, each in sizes if _is_layer(g)]
        rest = sum(sum(each) for g, each in sizes if not _is_layer(g))
        return int((rest + 2 * max(layers, default=0)) * self.element)

    def _forward(self, ranks: Ranks, own: Stage, label: str, model: Inventory, here: Inventory) -> Quantity:
        """Logits where the head is, whole unless the loss works on parts of the vocabulary. [B]"""
        plan, asked = ranks.plan, ranks.question.asked
        parted = asked.loss.startswith("vocab-parallel")
        outputs = 0
        if own.is_last:
            outputs = vocabulary(here if parted else model)
        return ranks.question.beside(label, here, plan, outputs)


def _is_layer(group: Any) -> bool:
    return bool(group.place == "layer" and group.component == "text")


def _among(sharding: Any, replicas: int) -> int:
    """Ranks that share one copy of weights, of so many that hold the same. [-]"""
    ranks = getattr(sharding, "ranks", None)
    return int(sharding.cut(replicas) if ranks is None else ranks)


def put_beside(
    ranks: Ranks, stage: Stage, sharding: Any, layout: Any, weights: dict[str, Quantity]
) -> Quantity:
    """Add frozen models to a class of ranks; returns their weights. [B]"""
    before = dict(weights)
    for label, model, shared in ranks.question.others:
        one = Beside(ranks, stage, sharding, label, model)
        if not shared:
            weights[f"{label}, frozen"] = one.weights
        layout.extra.append(("loss", f"{label}'s forward", one.forward, one.gathered))
    return add_up(size for name, size in weights.items() if name not in before)


__all__ = ["Beside", "check_beside", "put_beside"]
