"""The report of an iteration: items, roles, phases and classes of GPUs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.items import items_of
from llmcalc.answer.training.report import describe, warn
from llmcalc.answer.training.rl.engine import PARTS, Engine
from llmcalc.answer.training.rl.frameworks import PHASES
from llmcalc.answer.training.rl.phases import ENGINE, RlEstimate
from llmcalc.answer.training.rl.question import TRAINER, RlQuestion
from llmcalc.estimate import Item, Peak
from llmcalc.report import Report
from llmcalc.units import format_bytes

if TYPE_CHECKING:
    from llmcalc.hardware import Device

LOSSES, SLEEP = "policy-losses", "vllm-sleep"
"""Where log-probabilities and what sleeps are told."""

VERDICTS = ("fits", "too_close", "does_not_fit")


class Iteration:
    """What a report tells of an iteration besides its items.

    Attributes
    ----------
    roles, phases, classes : list of dict
        A row for each model, each phase and each class of GPUs.
    facts : dict
        Algorithm, engine and numbers of answers.
    """

    def __init__(self) -> None:
        self.roles: list[dict[str, Any]] = []
        self.phases: list[dict[str, Any]] = []
        self.classes: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.facts, "roles": self.roles, "phases": self.phases, "classes": self.classes}


def rl_report(question: RlQuestion, device: Device | None) -> Report:
    """One iteration on a class of GPUs that decides, with all of them told."""
    found = question.classes()
    engine = question.engine()
    rows = [_class_row(question, made, device, engine) for made in found]
    apart = "rollout" in question.rl.apart
    if apart and engine is not None:
        rows.append(_engine_row(question, engine, device))
    made = found[_decides(rows[: len(found)])]
    report = _report(question, made, device)
    told = report.rl = Iteration()
    told.classes = rows
    told.roles = [row for one in found for row in _role_rows(question, one)]
    told.phases = [row for one in found for row in _phase_rows(one, len(found) > 1)]
    told.facts = _facts(question, engine)
    worst = max(rows, key=lambda row: VERDICTS.index(row["verdict"] or "fits"))
    if device is not None:
        _settle(report, worst, made.name)
    if engine is not None and engine.is_own:
        told.roles.append(_engine_role(made, engine, apart, question))
        _warn_engine(report, question, engine, apart)
    return report


def _decides(rows: list[dict[str, Any]]) -> int:
    """The class with the worst verdict, of equal ones the first, which trains."""
    return max(range(len(rows)), key=lambda place: (VERDICTS.index(rows[place]["verdict"] or "fits"), -place))


def _report(question: RlQuestion, made: RlEstimate, device: Device | None) -> Report:
    """Items and heading of a class."""
    first = made.members[0]
    asking = first.update or first.forward
    items = _items(asking, made)
    place = next(n for n, item in enumerate(items) if item.name == "runtime")
    items.insert(place, _engine_item(made))
    rank = made.name if question.rl.apart else made.rank
    report = Report("train", items, Peak(made.phase, rank, made.total, made.low, made.high))
    report.timeline = made
    if device is not None:
        report.held_bytes = made.process
        report.margins = (device.usable_low - made.process_high, device.usable_high - made.process_low)
    policy = question.roles[0].update
    assert policy is not None
    whole = copy.copy(made)
    whole.states = policy.whole()
    describe(report, policy, whole, device)
    _head(report, question)
    report.gpus = question.gpus
    warn(report, asking, made)
    if device is not None:
        from llmcalc.answer.training.room import Room

        report.capacity = Room(question, device, made)  # type: ignore[arg-type]
        report.context_limit = question.inventory.context
    return report


def _items(asking: Any, made: RlEstimate) -> list[Item]:
    """The items of a step; what is saved is the trained models alone."""
    saved = copy.copy(made)
    trained = [role for role in made.members if role.steps]
    saved.weights = {
        f"{role.name}, {label}": size
        for role in trained
        for label, size in role.steps[made.place].weights.items()
    }
    items = items_of(asking, made)
    next(item for item in items if item.name == "logits").source = LOSSES
    disk = [item for item in items_of(asking, saved) if item.where == "disk"]
    return [*(item for item in items if item.where != "disk"), *(disk if trained else [])]


def _engine_item(made: RlEstimate) -> Item:
    """The engine's line, of its parts at the peak."""
    engine = made.engine
    if engine is None:
        item = Item(ENGINE, [0], phases=["rollout"], formula="none", note="no engine on these GPUs")
        return item
    now = engine.held(made.state)
    most = engine.held("awake")
    ranges = [sum(engine.held("awake", end).values()) for end in ("low", "high")]
    phases = [phase for phase in PHASES if any(m.phase == phase and m.held.get(ENGINE) for m in made.moments)]
    parts = []
    for name in PARTS:
        if most.get(name):
            part = Item(
                name, [most[name]], phases=phases, grade=engine.report.grade, formula="vram estimate",
                source=engine.report[name].source, note=name,
            )  # fmt: skip
            part.at_peak = now.get(name, 0)
            parts.append(part)
    words = ", ".join(f"{format_bytes(most[part.name])} {part.name.replace('_', ' ')}" for part in parts)
    item = Item(
        ENGINE, [sum(most.values())], low=[ranges[0]], high=[ranges[1]], phases=phases,
        grade=engine.report.grade, formula="vram estimate",
        source=", ".join(filter(None, [*(part.source for part in parts[:1]), SLEEP])),
        inputs={"engine": engine.report.scenario["engine"], "level": engine.level}, items=parts,
        note=f"{engine.report.scenario['engine']} awake: {words}",
    )  # fmt: skip
    item.at_peak = sum(now.values())
    return item


def _head(report: Report, question: RlQuestion) -> None:
    """What the iteration adds to heading and scenario."""
    rl, asked = question.rl, question.asked
    prompts = question.answers() // rl.group
    where = (
        f"{rl.engine} on the same GPUs"
        if "rollout" not in rl.apart
        else f"{rl.engine} on {rl.rollout_gpus} more"
    )
    if rl.engine == "none":
        where = "no rollout here"
    sleep = {0: "", 1: ", asleep at level 1", 2: ", asleep at level 2"}[rl.level]
    report.header[2:2] = [rl.algorithm.upper()]
    report.header += [
        f"{prompts:,} prompt{'s' if prompts > 1 else ''} of {rl.prompt:,} x {rl.group} "
        f"answer{'s' if rl.group > 1 else ''} of {rl.output:,}",
        where + sleep,
    ]

    def shown(value: Any) -> Any:
        return getattr(value, "name", value)

    report.scenario |= {
        "rl": rl.algorithm,
        "reference": shown(rl.reference) or "none",
        "critic": shown(rl.critic) or "none",
        "reward": shown(rl.reward) or "rule",
        "rollout": rl.engine,
        "placement": rl.placement,
        "rollout_gpus": rl.rollout_gpus or None,
        "rollout_tp": rl.tp,
        "gpu_memory_utilization": None if rl.share is None else float(rl.share),
        "sleep": rl.level,
        "enforce_eager": rl.eager,
        "idle_offload": ",".join(sorted(rl.waiting)) or None,
        "sync_bucket": rl.bucket,
        "prompt": rl.prompt,
        "output": rl.output,
        "group_size": rl.group,
        "prompts": prompts,
        "forward_batch": rl.forward or asked.batch,
        "loss": asked.loss,
        "log_probs": question.roles[0].forward.asked.loss,
    }
    report.origins |= rl.origins | {"context": "prompt and answer", "seq_len": "prompt and answer"}


def _settle(report: Report, worst: dict[str, Any], name: str) -> None:
    """The verdict is that of the worst class, wherever it is."""
    if worst["name"] == name or worst["verdict"] in (None, "fits"):
        return
    report.refusal = f"the {worst['name']} class does not" if worst["verdict"] == "does_not_fit" else ""
    if not report.refusal and report.margins is not None:
        report.margins = (min(report.margins[0], -1), report.margins[1])


# -- rows ----------------------------------------------------------------------------------------


def _class_row(
    question: RlQuestion, made: RlEstimate, device: Device | None, engine: Engine | None
) -> dict[str, Any]:
    verdict, left = None, None
    if device is not None:
        surely, never = made.process_high <= device.usable_low, made.process_low > device.usable_high
        verdict = "fits" if surely else "does_not_fit" if never else "too_close"
        left = int(device.usable_bytes - made.process)
        if made.engine is not None and made.engine.is_own and not made.engine.starts:
            verdict = "does_not_fit"
    names = [role.name for role in made.members]
    return {
        "name": made.name,
        "gpus": question.gpus,
        "roles": [*names, *(["rollout"] if made.engine is not None and made.engine.is_own else [])],
        "total_bytes": int(made.total),
        "range_bytes": [int(made.low), int(made.high)],
        "phase": made.phase,
        "where": made.where,
        "verdict": verdict,
        "headroom_bytes": left,
    }


def _engine_row(question: RlQuestion, engine: Engine, device: Device | None) -> dict[str, Any]:
    """The class of GPUs that answers."""
    sync = _received(question)
    total = sum(engine.held("awake").values()) + sync
    verdict = None
    if device is not None:
        verdict = engine.report.verdict if engine.starts else "does_not_fit"
    return {
        "name": "rollout",
        "gpus": question.rl.rollout_gpus,
        "roles": ["rollout"],
        "total_bytes": total,
        "range_bytes": [sum(engine.held("awake", end).values()) + sync for end in ("low", "high")],
        "phase": "sync" if sync else "rollout",
        "where": "new weights" if sync else "generation",
        "verdict": verdict,
        "headroom_bytes": None if device is None else int(device.usable_bytes - total),
    }


def _received(question: RlQuestion) -> int:
    """What an engine on other GPUs receives new weights into: a bucket, or its largest tensor. [B]"""
    from llmcalc.answer.training.rl.phases import largest

    rl = question.rl
    return rl.bucket or 2 * largest(question.roles[0])


def _role_rows(question: RlQuestion, made: RlEstimate) -> list[dict[str, Any]]:
    rows = []
    for role in made.members:
        best = max(made.moments, key=lambda moment: moment.roles.get(role.name, 0))  # type: ignore[attr-defined]
        peak = max(made.moments, key=lambda moment: moment.total)
        states = (role.steps or role.passes)[made.place].states
        rows.append(
            {
                "role": role.name,
                "model": role.inventory.name,
                "params": role.inventory.params,
                "trained_params": int(states.trained) if role.steps else 0,
                "class": made.name,
                "resident_bytes": int(sum(role.idle(made.place).values())),
                "waiting_bytes": 0 if role.streams else int(sum(role.away(made.place).values())),
                "peak_bytes": int(best.roles.get(role.name, 0)),  # type: ignore[attr-defined]
                "peak_phase": best.phase,
                "bytes_at_peak": int(peak.roles.get(role.name, 0)),  # type: ignore[attr-defined]
                "shares_weights": role.shared,
            }
        )
    return rows


def _engine_role(made: RlEstimate, engine: Engine, apart: bool, question: RlQuestion) -> dict[str, Any]:
    awake = sum(engine.held("awake").values())
    return {
        "role": "rollout",
        "model": question.inventory.name,
        "params": question.inventory.params,
        "trained_params": 0,
        "class": "rollout" if apart else TRAINER,
        "resident_bytes": awake if apart else sum(engine.held("asleep").values()),
        "waiting_bytes": engine.host,
        "peak_bytes": awake,
        "peak_phase": "rollout",
        "bytes_at_peak": awake if apart else int(made.shares.get(ENGINE, 0)),
        "shares_weights": False,
    }


def _phase_rows(made: RlEstimate, several: bool) -> list[dict[str, Any]]:
    """The largest moment of each phase."""
    rows = []
    for phase in PHASES:
        own = [moment for moment in made.moments if moment.phase == phase]
        if not own:
            continue
        best = max(own, key=lambda moment: moment.total)
        rows.append(
            {
                "phase": phase,
                "class": made.name,
                "where": best.where,
                "tensor_bytes": int(best.total),
                "roles": {name: int(size) for name, size in best.roles.items()},  # type: ignore[attr-defined]
                "is_peak": phase == made.phase,
            }
        )
    return rows


def _facts(question: RlQuestion, engine: Engine | None) -> dict[str, Any]:
    rl, answers = question.rl, question.answers()
    made: dict[str, Any] = {
        "algorithm": rl.algorithm,
        "framework": rl.framework.name or None,
        "placement": rl.placement,
        "processes": rl.framework.processes,
        "answers": answers,
        "source": rl.framework.source,
    }
    if engine is not None:
        made["rollout"] = {
            "engine": rl.engine,
            "engine_version": engine.report.scenario.get("engine_version"),
            "replicas": question.replicas,
            "tp": rl.tp,
            "sequences": engine.sequences,
            "pool_bytes": engine.pool if engine.is_own else None,
            "holds_sequences": engine.holds,
            "awake_bytes": sum(engine.held("awake").values()),
            "asleep_bytes": sum(engine.held("asleep").values()),
            "host_bytes": engine.host,
        }
    return made


def _warn_engine(report: Report, question: RlQuestion, engine: Engine, apart: bool) -> None:
    """Where the engine does not start, or answers have to wait for each other."""
    rl, option = question.rl, "--gpu-memory-utilization"
    if not engine.starts:
        report.warnings += engine.report.warnings
        report.refusal = report.refusal or "the engine does not start"
        report.warnings.append(
            f"The engine's share holds no page beside its weights: raise {option}, or use --rollout-tp "
            f"{2 * rl.tp} on more GPUs."
        )
    elif engine.holds is not None and engine.holds < engine.sequences:
        report.warnings.append(
            f"Each engine is asked for {engine.sequences:,} answers and its pool of "
            f"{format_bytes(engine.pool)} holds {engine.holds:,} of {rl.length:,} tokens at once: the others "
            f"wait. A higher {option} lets more run."
        )
    if not apart and not engine.level and engine.is_own:
        saved = sum(engine.held("awake").values()) - sum(
            engine.parts.get(name, 0) for name in ("cuda_graphs", "runtime")
        )
        report.hints.append(
            f"The engine stays awake through the updates; --sleep on frees {format_bytes(saved)}."
        )


__all__ = ["Iteration", "rl_report"]
