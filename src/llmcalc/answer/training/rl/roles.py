"""The models of an iteration: what each is asked, holds at rest, and needs while it works."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.question import Estimate, Question
from llmcalc.answer.training.rl.asked import RlAsked
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError
from llmcalc.estimate import Moment, add_up
from llmcalc.memory.training.precisions import RECIPES
from llmcalc.memory.training.trainable import Choice
from llmcalc.memory.training.value_head import scored
from llmcalc.model.inventory import Inventory
from llmcalc.precision import find_format

if TYPE_CHECKING:
    from llmcalc.hardware import Device

STATES = ("master_weights", "optimizer", "gradients")
"""What an update alone needs."""


class Role:
    """One model of an iteration.

    Parameters
    ----------
    name : str
        ``policy``, ``reference``, ``critic`` or ``reward``.
    inventory : Inventory
        The model.
    forward : Question
        Its pass without gradients.
    update : Question or None
        Its step, where it is trained.
    shared : bool
        Whether its weights are the policy's.
    waits : frozenset of str
        What of it waits on the host while others work: ``weights``, ``states``.
    """

    def __init__(
        self, name: str, inventory: Inventory, forward: Question, update: Question | None = None,
        shared: bool = False, waits: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.name, self.inventory, self.forward, self.update = name, inventory, forward, update
        self.shared, self.waits = shared, waits
        self.passes: list[Estimate] = []
        self.steps: list[Estimate] = []

    def estimate(self, batch: Any, seq: Any, rank: Any, forward: Any) -> None:
        """Look at its pass and its step, on each class of ranks."""
        self.passes = _classes(self.forward.estimate(forward, seq, rank))
        self.steps = _classes(self.update.estimate(batch, seq, rank)) if self.update is not None else []

    @property
    def streams(self) -> bool:
        """Whether its weights come from the host layer by layer."""
        return "params" in self.forward.asked.offload

    def whole(self, place: int) -> dict[str, Any]:
        """What it holds at rest on a class of ranks, by item. [B]"""
        if self.shared:
            return {}
        made = (self.steps or self.passes)[place]
        first = next(moment.held for moment in made.moments if moment.phase == "forward")
        found = {name: first.get(name, 0) for name in ("weights", "master_weights", "optimizer")}
        if self.update is not None:
            found["buffers"] = add_up(made.standing.values())
            if _is_persistent(self.update.asked):
                found["gradients"] = made.states.gradients
        return found

    def idle(self, place: int) -> dict[str, Any]:
        """What stays on the device while others work. [B]"""
        found = self.working(place)
        if "weights" in self.waits or (self.streams and self.update is None):
            found.pop("weights", None)
            found.pop("gradients", None)
        return found

    def working(self, place: int) -> dict[str, Any]:
        """What is there while it runs forward. [B]"""
        found = self.whole(place)
        return {n: b for n, b in found.items() if n not in STATES} if "states" in self.waits else found

    def away(self, place: int) -> dict[str, Any]:
        """What waits on the host while others work. [B]"""
        whole, left = self.whole(place), self.idle(place)
        return {name: size - left.get(name, 0) for name, size in whole.items() if size != left.get(name, 0)}

    def forwards(self, place: int) -> list[tuple[str, dict[str, Any]]]:
        """What each moment of its pass adds to what it holds. [B]"""
        made = self.passes[place]
        standing = add_up(made.standing.values())
        return [
            (moment.where, _above(moment, standing)) for moment in made.moments if moment.phase == "forward"
        ]

    def updates(self, place: int) -> list[tuple[str, dict[str, Any]]]:
        """What it holds at each moment of its step. [B]"""
        return [
            (f"{moment.phase} {moment.where}" if moment.phase != "step" else "step", dict(moment.held))
            for moment in self.steps[place].moments
            if moment.phase != "load"
        ]


def _above(moment: Moment, standing: Any) -> dict[str, Any]:
    found = {name: moment.held.get(name, 0) for name in ("activations", "logits", "gathered")}
    return {**found, "buffers": moment.held.get("buffers", 0) - standing}


def _classes(made: Estimate) -> list[Estimate]:
    """An estimate of each class of ranks."""
    return [one for _, one in made.ranks] or [made]


def _is_persistent(asked: Asked) -> bool:
    """Whether gradients have a place of their own from step to step."""
    if "gradients" in asked.offload or asked.choice.leaves_model:
        return False
    shared = asked.sharding is not None and asked.sharding(asked).persistent
    return bool(asked.recipe.persistent or shared)


def roles_of(
    inventory: Inventory, asked: Asked, rl: RlAsked, book: Catalog, device: Device | None,
    models: dict[str, Inventory], given: dict[str, Any],
) -> list[Role]:  # fmt: skip
    """The models of an iteration, the policy first.

    Parameters
    ----------
    inventory : Inventory
        The policy.
    asked, rl : Asked, RlAsked
        What was asked.
    book : Catalog
        For formats.
    device : Device or None
        The GPU.
    models : dict
        Of reference, critic and reward, where there are any and they have memory of their own.
    given : dict
        Keywords of `llmcalc.train`.
    """
    words = {"optimizer": "states", "params": "weights"}
    states = frozenset(words[word] for word in rl.waiting if word in words)
    stated = given.get("dtype") is not None
    policy = _copy(asked, loss=loss_of(asked, rl), answers=_answers(asked, rl))
    alone = _copy(policy, no_grad=True, recompute="none", accumulate=1, keep_logits=False)

    def question(model: Inventory, one: Asked) -> Question:
        _check(model, one)
        return Question(model, one, book, device)

    found = [Role("policy", inventory, question(inventory, alone), question(inventory, policy), waits=states)]
    if rl.reference is not None:
        model = models.get("reference")
        if model is None:  # adapters are taken off the policy
            found.append(Role("reference", inventory, found[0].forward, shared=True))
        else:
            own = frozen(asked, rl, book, stated, policy.loss, policy.answers)
            waits = frozenset(["weights"] if "reference" in rl.waiting else [])
            found.append(Role("reference", model, question(model, own), waits=waits))
    if rl.critic is not None:
        model = scored(models.get("critic", inventory))
        critic = _copy(asked, loss="values", answers=0, keep_logits=False, untied=False)
        if "critic" in models and asked.method != "full":
            from llmcalc.answer.training.part import choose_part

            critic.choice = Choice(asked.method)
            choose_part(critic, model, critic.values, given)
        values = _copy(critic, no_grad=True, recompute="none", accumulate=1)
        found.append(Role("critic", model, question(model, values), question(model, critic), waits=states))
    if rl.reward is not None:
        model = scored(models["reward"])
        waits = frozenset(["weights"] if "reward" in rl.waiting else [])
        found.append(
            Role("reward", model, question(model, frozen(asked, rl, book, stated, "values")), waits=waits)
        )
    return found


def _copy(asked: Asked, **changes: Any) -> Asked:
    made = copy.copy(asked)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def frozen(
    asked: Asked, rl: RlAsked, book: Catalog, stated: bool, loss: str, answers: Any = 0
) -> Asked:  # fmt: skip
    """What is asked of a model that only runs forward; `stated`: the dtype of frozen weights was given."""
    choice = Choice("freeze")
    choice.trained = ("nothing",)
    dtype = asked.dtype
    if not stated and rl.framework.frozen == "fp32" and asked.recipe.weights == 4:
        dtype = find_format("fp32", book, "weights", "--dtype")
    recipe = RECIPES["bf16"]
    if dtype.block_bytes // dtype.elements == 4:
        recipe = asked.recipe if asked.recipe.autocast else RECIPES["fp32"]
    return _copy(
        asked, choice=choice, recipe=recipe, dtype=dtype, scheme=None, upcast=False, recompute="none",
        accumulate=1, in_backward=False, ema=False, no_grad=True, keep_logits=False, loss=loss,
        answers=answers, untied=False, values={**asked.values, "quant": None},
        offload=frozenset(["params"] if rl.framework.streams else []),
    )  # fmt: skip


def loss_of(asked: Asked, rl: RlAsked) -> str:
    """The code of the log-probabilities: the framework's, or what `--loss` says."""
    if asked.loss == "eager":
        return rl.framework.loss
    return "log-probs-fused" if asked.loss == "fused" else asked.loss


def _answers(asked: Asked, rl: RlAsked) -> int:
    """Tokens that need logits; 0 where all have them. [tokens]"""
    return rl.output if loss_of(asked, rl) in ("log-probs", "log-probs-fused") else 0


def _check(model: Inventory, asked: Asked) -> None:
    """Refuse a layout that another model does not allow."""
    if asked.mesh is None:
        return
    from llmcalc.memory.training.parallel.mesh import check_mesh

    try:
        check_mesh(asked.mesh, model, asked.implementation == "megatron")
    except InputError as error:
        raise InputError(error.problem, f"{error.remedy} Or name models that share one layout.") from None
