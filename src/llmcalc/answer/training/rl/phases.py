"""One iteration, moment by moment: who works, who waits, and the class of GPUs that holds most."""

from __future__ import annotations

import copy
from typing import Any

from llmcalc.answer.training.question import Estimate
from llmcalc.answer.training.rl.asked import RlAsked
from llmcalc.answer.training.rl.engine import Engine
from llmcalc.answer.training.rl.frameworks import PHASES
from llmcalc.answer.training.rl.roles import Role
from llmcalc.estimate import Item, Moment, add_up, timeline_peak
from llmcalc.formula import Quantity, ceil_div
from llmcalc.memory.training.runtime import CONTEXT
from llmcalc.memory.training.timeline import NAMES
from llmcalc.model.inventory import size

ENGINE = "rollout_engine"
"""Item of the engine beside the training."""

ITEMS = (*NAMES, ENGINE)


class RlMoment(Moment):
    """A moment that also tells what each role holds.

    Attributes
    ----------
    roles : dict
        Bytes by role. [B]
    engine : str
        ``awake``, ``asleep``, ``weights``, or empty without one.
    """

    __slots__ = ("engine", "roles")

    def __init__(self, phase: str, where: str, held: dict[str, dict[str, Any]], engine: str) -> None:
        whole: dict[str, Any] = {}
        for own in held.values():
            for name, amount in own.items():
                whole[name] = whole.get(name, 0) + amount
        super().__init__(phase, where, whole)
        self.roles = {role: add_up(own.values()) for role, own in held.items()}
        self.engine = engine


class RlEstimate(Estimate):
    """What one iteration comes to on one class of GPUs.

    Attributes
    ----------
    engine : Engine or None
        Beside the training.
    state : str
        Of the engine at the peak.
    name : str
        Of the class: ``trainer``, or the role that stands apart.
    members : list of Role
        The models of the class.
    place : int
        Which class of the layout's ranks.
    alone : int
        The most that the step of the policy needs by itself, in the same terms. [B]
    """

    __slots__ = ("alone", "engine", "members", "name", "place", "state")

    def __init__(self, base: Estimate, moments: list[RlMoment]) -> None:
        for slot in Estimate.__slots__:
            setattr(self, slot, getattr(base, slot))
        self.moments = list(moments)
        self.phase, self.where, self.shares = timeline_peak(moments)
        self.alone = int(base.allocated)
        self.engine: Engine | None = None
        self.state, self.name, self.place = "", "", 0
        self.members: list[Role] = []

    @property
    def tensors(self) -> tuple[Quantity, Quantity]:
        """Low and high of the tensors, the engine by its own range. [B]"""
        held = self.shares.get(ENGINE, 0)
        own = self.allocated - held
        low, high = own * self.spread[0] // 100, ceil_div(own * self.spread[1], 100)
        if self.engine is None or not held:
            return low, high
        ends = [add_up(self.engine.held(self.state, end).values()) for end in ("low", "high")]
        return low + ends[0], high + ends[1]


class Combined:
    """The models of one class of GPUs, and the engine if it is there."""

    def __init__(
        self, name: str, roles: list[Role], engine: Engine | None, rl: RlAsked, question: Any
    ) -> None:
        self.name, self.roles, self.engine = name, roles, engine
        self.rl, self.question = rl, question

    def estimate(self) -> RlEstimate:
        """The class of ranks that holds most."""
        places = range(len(self.roles[0].steps or self.roles[0].passes))
        found = [self._at(place) for place in places]
        return max(found, key=lambda one: int(one.total))

    def _at(self, place: int) -> RlEstimate:
        moments = self._moments(place)
        first = self.roles[0]
        base = (first.steps or first.passes)[place]
        made = RlEstimate(base, moments)
        best = max(moments, key=lambda moment: moment.total)
        made.engine, made.state, made.name = self.engine, best.engine, self.name
        made.members, made.place = self.roles, place
        made.weights = self._weights(moments, place)
        trained = [role.steps[place].states for role in self.roles if role.steps]
        if len(trained) > 1:
            from llmcalc.memory.training.parallel.sharding import combined

            made.states = combined([(states, 1) for states in trained], ())
        made.host = self._host(place)
        self._runtime(made)
        return made

    def _weights(self, moments: list[RlMoment], place: int) -> dict[str, Quantity]:
        """Weights by role and by what they are; as one where not all are there at once. [B]"""
        found = {
            f"{role.name}, {label}": size
            for role in self.roles
            if not role.shared
            for label, size in (role.steps or role.passes)[place].weights.items()
        }
        most = max(moment.held.get("weights", 0) for moment in moments)
        names = ", ".join(role.name for role in self.roles if not role.shared)
        return found if add_up(found.values()) == most else {f"{names}, not all at once": most}

    def _host(self, place: int) -> dict[str, Quantity]:
        """What lies in the machine's own memory at one time or another. [B]"""
        found: dict[str, Quantity] = {}
        for role in self.roles:
            for kind, amount in (role.steps or role.passes)[place].host.items():
                found[f"{role.name} {kind}"] = amount
            waiting = add_up(role.away(place).values())
            if waiting and not role.streams:
                found[f"{role.name} waiting"] = waiting
        if self.engine is not None and self.engine.host:
            found["engine asleep"] = self.engine.host
        return found

    def _runtime(self, made: RlEstimate) -> None:
        """What comes on top: one context and allocator for each process."""
        probe = copy.copy(made)
        probe.shares = {name: size for name, size in made.shares.items() if name != ENGINE}
        self.question.finish(probe)
        made.compiled, made.runtime, made.whole = probe.compiled, probe.runtime, probe.whole
        for item in {id(one): one for one in (made.runtime, made.whole)}.values():
            for part in (item, *item.items):
                part.phases = PHASES
        more = len([role for role in self.roles if not role.shared]) - 1
        if self.rl.framework.processes == "role" and more:
            made.whole = _with_contexts(made.whole, more)
            if self.question.asked.metric == "nvidia-smi":
                made.runtime = made.whole

    # -- moments -------------------------------------------------------------------------------

    def _moments(self, place: int) -> list[RlMoment]:
        found: list[RlMoment] = []
        here = {role.name: role for role in self.roles}
        joint = self.rl.framework.joint and {"policy", "critic"} <= set(here)
        for phase in PHASES:
            if phase in ("sync", "rollout"):
                found += self._of_engine(phase, place)
            elif phase.endswith("_update"):
                role = here.get(phase.partition("_")[0])
                if role is None or (joint and phase == "critic_update"):
                    continue
                steps = self._joint(here, place) if joint else [
                    (where, {role.name: held}) for where, held in role.updates(place)
                ]  # fmt: skip
                found += [self._moment(phase, where, held, place, "asleep") for where, held in steps]
            else:
                found += self._forward(phase, here, place)
        return found

    def _forward(self, phase: str, here: dict[str, Role], place: int) -> list[RlMoment]:
        """A pass without gradients of one model."""
        name = {"log_probs": "policy", "values": "critic"}.get(phase, phase)
        role = here.get(name)
        if role is None or (phase == "log_probs" and self.rl.engine == "none"):
            return []
        owner = here["policy"] if role.shared else role
        moments = []
        for where, extra in role.forwards(place):
            held = dict(owner.working(place))
            if owner.streams and owner.update is None:
                held["weights"] = role.passes[place].moments[1].held.get("weights", 0)
            for item, amount in extra.items():
                held[item] = held.get(item, 0) + amount
            moments.append(self._moment(phase, where, {owner.name: held}, place, "asleep"))
        return moments

    def _of_engine(self, phase: str, place: int) -> list[RlMoment]:
        """New weights on their way, and answers."""
        policy = next((role for role in self.roles if role.name == "policy"), None)
        if policy is None or self.rl.engine == "none":
            return []
        if phase == "sync":
            if self.rl.engine == "transformers":
                return []
            held = dict(policy.working(place))
            held["gathered"] = self._gathered(policy, place)
            held["buffers"] = held.get("buffers", 0) + self._sent(policy)
            return [self._moment(phase, "weights", {"policy": held}, place, "weights")]
        if self.engine is None:  # it answers elsewhere
            return []
        if not self.engine.is_own:
            return [self._moment(phase, "generation", self._generating(policy, place), place, "awake")]
        return [self._moment(phase, "generation", {}, place, "awake")]

    def _generating(self, policy: Role, place: int) -> dict[str, dict[str, Any]]:
        """The policy while it answers itself; one module with a critic gathers that one's weights too."""
        found = {"policy": {**policy.working(place), "gathered": unsharded(policy, place)}}
        if self.rl.framework.joint and self.rl.algorithm == "ppo":
            found["policy"]["logits"] = self._scores(policy)
            for role in self.roles:
                if role.name == "critic":
                    found["critic"] = {**role.working(place), "gathered": unsharded(role, place)}
        return found

    def _joint(self, here: dict[str, Role], place: int) -> list[tuple[str, dict[str, dict[str, Any]]]]:
        """One step of policy and critic together: forward both, then backward both, the policy first."""
        policy, critic = here["policy"], here["critic"]
        first, second = policy.steps[place], critic.steps[place]
        at_rest = {one.name: one.whole(place) for one in (policy, critic)}
        grown = {
            name: {**at_rest[name], "gradients": made.states.gradients}
            for name, made in (("policy", first), ("critic", second))
        }
        kept = {**at_rest["critic"], "activations": second.trace.saved}
        found = []
        for where, held in critic.updates(place):
            if where.startswith("forward"):
                found.append((f"critic {where}", {"critic": held, "policy": at_rest["policy"]}))
        for where, held in policy.updates(place):
            if where != "step":
                found.append((f"policy {where}", {"policy": held, "critic": kept}))
        for where, held in critic.updates(place):
            if where.startswith(("loss", "backward")):
                found.append((f"critic {where}", {"critic": held, "policy": grown["policy"]}))
        ends = {role.name: dict(role.updates(place)[-1][1]) for role in (policy, critic)}
        return [*found, ("step", ends)]

    def _moment(
        self, phase: str, where: str, working: dict[str, dict[str, Any]], place: int, state: str
    ) -> RlMoment:
        held = dict(working)
        for role in self.roles:
            if role.name not in held:
                held[role.name] = role.idle(place)
        if self.engine is not None:
            held["rollout"] = {ENGINE: add_up(self.engine.held(state).values())}
        return RlMoment(phase, where, held, state if self.engine is not None else "")

    # -- on the way to the engine --------------------------------------------------------------

    def _gathered(self, policy: Role, place: int) -> int:
        """The largest tensor, brought together from the ranks that share it. [B]"""
        asked = self.question.asked
        made = policy.steps[place]
        if asked.mesh is None or asked.mesh.gpus == 1:
            return 0
        assert policy.update is not None
        whole = add_up(policy.update.whole().weights.values())
        here = add_up(made.weights.values())
        return largest(policy) * _element(asked) if whole > here else 0

    def _sent(self, policy: Role) -> int:
        """Copies on their way, as the framework makes them. [B]"""
        asked, copies = self.question.asked, 0
        if self.rl.framework.copies and (_element(asked) != 2 or not self.rl.bucket):
            copies = 2 * largest(policy)
        if asked.choice.leaves_model:  # a product of adapters, added to the weights and taken off again
            copies += asked.choice.adapter_bytes * largest(policy, "layer")
        return int(copies + self.rl.bucket)

    def _scores(self, policy: Role) -> int:
        """fp32 logits of all answers of one step, which TRL's PPO keeps from generating them. [B]"""
        asked = self.question.asked
        return int(4 * asked.batch * asked.accumulate * self.rl.output * vocabulary(policy))


def unsharded(role: Role, place: int) -> int:
    """What generating gathers: the weights that other ranks hold. [B]"""
    if role.update is None or role.update.asked.mesh is None:
        return 0
    whole = add_up(role.update.whole().weights.values())
    return max(int(whole) - int(add_up(role.steps[place].weights.values())), 0)


def vocabulary(policy: Role) -> int:
    """Outputs of the head. [-]"""
    heads = [op for group in policy.inventory for op in group.ops if group.place == "head"]
    return max((size(op.out) for op in heads if op.kind == "linear"), default=0)


def largest(policy: Role, place: str = "") -> int:
    """Elements of the largest tensor. [-]"""
    return max(
        tensor.numel
        for group in policy.inventory.groups
        for tensor in group.tensors
        if tensor.tag == "main" and (not place or group.place == place)
    )


def _element(asked: Any) -> int:
    """Bytes of a policy's weight. [B]"""
    if asked.choice.leaves_model:
        return int(asked.dtype.block_bytes // asked.dtype.elements)
    return int(asked.recipe.weights)


def _with_contexts(runtime: Item, more: int) -> Item:
    """The same with a CUDA context for each further process."""
    low, middle, high = (more * size for size in CONTEXT)
    part = Item(
        "further contexts", [middle], low=[low], high=[high], phases=runtime.phases, grade="assumed",
        formula="constant", source=runtime.source, note=f"{more} more processes, each with a context",
    )  # fmt: skip
    return Item(
        "runtime", [runtime.amounts[0] + middle], low=[runtime.low[0] + low], high=[runtime.high[0] + high],
        phases=runtime.phases, grade=runtime.grade, formula=runtime.formula, source=runtime.source,
        note=runtime.note, items=[*runtime.items, part],
    )  # fmt: skip
