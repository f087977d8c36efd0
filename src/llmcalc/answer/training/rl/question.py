"""An iteration as a question that is estimated as often as it takes: for other batches, lengths, ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.rl.asked import RlAsked
from llmcalc.answer.training.rl.engine import Engine, engine_of
from llmcalc.answer.training.rl.phases import Combined, RlEstimate
from llmcalc.answer.training.rl.roles import Role, roles_of
from llmcalc.catalog import Catalog
from llmcalc.formula import ceil_div
from llmcalc.model.inventory import Inventory

if TYPE_CHECKING:
    from llmcalc.hardware import Device

TRAINER = "trainer"
"""The class of GPUs that holds the policy."""


class RlQuestion:
    """The models of an iteration, what was asked of them, and on which GPU.

    Parameters
    ----------
    inventory : Inventory
        The policy.
    asked, rl : Asked, RlAsked
        What was asked of its training and of the iteration.
    book : Catalog
        For formats.
    device : Device or None
        The GPU.
    models : dict
        Of reference, critic and reward, where they have memory of their own.
    given : dict
        Keywords of `llmcalc.train`.

    Attributes
    ----------
    roles : list of Role
        All models, the policy first.
    """

    def __init__(
        self, inventory: Inventory, asked: Asked, rl: RlAsked, book: Catalog, device: Device | None,
        models: dict[str, Inventory], given: dict[str, Any],
    ) -> None:  # fmt: skip
        self.asked, self.rl, self.book, self.device = asked, rl, book, device
        self.inventory, self.models = inventory, models
        self.roles: list[Role] = roles_of(inventory, asked, rl, book, device, models, given)
        self._engines: dict[tuple[int, int], Engine | None] = {}

    @property
    def gpus(self) -> int:
        """GPUs that train. [-]"""
        return 1 if self.asked.mesh is None else self.asked.mesh.gpus

    def answers(self, batch: Any = None) -> int:
        """Answers of an iteration, over all GPUs. [-]"""
        asked, rl = self.asked, self.rl
        if rl.prompts is not None:
            return rl.prompts * rl.group
        replicas = 1 if asked.mesh is None else asked.mesh.dp
        step = int(asked.batch if batch is None else batch) * asked.accumulate * replicas
        return int(ceil_div(step, rl.group)) * rl.group

    @property
    def replicas(self) -> int:
        """Engines that share the answers. [-]"""
        return max((self.rl.rollout_gpus or self.gpus) // self.rl.tp, 1)

    def engine(self, batch: Any = None, seq: Any = None) -> Engine | None:
        """The engine for so many answers of such a length."""
        each = int(ceil_div(self.answers(batch), self.replicas))
        length = self.rl.length if seq is None else int(seq)
        if (each, length) not in self._engines:
            self._engines[each, length] = engine_of(
                self.inventory, self.asked, self.rl, self.book, self.device, each, length
            )
        return self._engines[each, length]

    def classes(self, batch: Any = None, seq: Any = None, rank: Any = None) -> list[RlEstimate]:
        """Each class of GPUs that holds models, the trainer first."""
        asked, rl = self.asked, self.rl
        batch = asked.batch if batch is None else batch
        rank = asked.choice.rank if rank is None else rank
        length = asked.seq if seq is None else seq
        for role in self.roles:
            for one in (role.forward, role.update):
                if one is not None and one.asked.answers:
                    one.asked.answers = max(int(length) - rl.prompt, 1)
            if role.shared:
                role.passes = self.roles[0].passes
            else:
                role.estimate(batch, length, rank, rl.forward or batch)
        here = [role for role in self.roles if role.name not in rl.apart]
        engine = None if "rollout" in rl.apart else self.engine(batch, seq)
        found = [Combined(TRAINER, here, engine, rl, self.roles[0].update).estimate()]
        for role in self.roles:
            if role.name in rl.apart:
                asking = role.update or role.forward
                found.append(Combined(role.name, [role], None, rl, asking).estimate())
        return found

    def estimate(self, batch: Any = None, seq: Any = None, rank: Any = None) -> RlEstimate:
        """The class that needs most of those that hold models."""
        return max(self.classes(batch, seq, rank), key=lambda one: int(one.process))
