"""The items of a training step: each with its grade, formula, parts and phases."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.question import Estimate, Question
from llmcalc.estimate import Item, add_up, worst_grade
from llmcalc.formula import Quantity, ceil_div, is_array, larger
from llmcalc.memory.training.formulas import gradient_bytes, state_bytes
from llmcalc.memory.training.plan import CORE
from llmcalc.memory.training.timeline import NAMES
from llmcalc.memory.training.timeline import PHASES as ALWAYS
from llmcalc.units import format_bytes


def items_of(question: Question, made: Estimate) -> list[Item]:
    """The contract's items, each with its own maximum and its share at the peak."""
    asked, states = question.asked, made.states
    own: dict[str, Quantity] = {}
    phases: dict[str, list[str]] = {}
    for moment in made.moments:
        for name, value in moment.held.items():
            own[name] = larger(own[name], value) if name in own else value
            if (is_array(value) or value) and moment.phase not in phases.setdefault(name, []):
                phases[name].append(moment.phase)
    found = []
    for name in NAMES:
        amount = own.get(name, 0)
        item = Item(
            name, [amount], phases=phases.get(name) or ["step"], **_facts(name, question, made, amount)
        )
        item.at_peak = made.shares.get(name, 0)
        if name != "buffers":  # whose parts know their own
            _share_parts(item)
        found.append(item)
    found.append(made.runtime)
    made.runtime.at_peak = made.runtime.amounts[0]
    _share_parts(made.runtime)
    found += _elsewhere(asked, question, made, states)
    return found


def _share_parts(item: Item) -> None:
    """Parts that are there whole whenever the item is."""
    plain = not is_array(item.at_peak) and not is_array(item.bytes)
    if plain and not item.at_peak:
        return
    whole = plain and item.at_peak == item.bytes
    for part in item.items:
        if whole or is_array(item.at_peak) or "step" not in part.phases or len(part.phases) > 1:
            part.at_peak = part.amounts[0]


ORACLE = "activation-oracle"
"""How activations were held against PyTorch."""


def _oracle(asked: Asked) -> str:
    """Where it is told what layers keep."""
    return "megatron-core" if asked.implementation == "megatron" else ORACLE


def _facts(name: str, question: Question, made: Estimate, amount: Quantity) -> dict[str, Any]:
    """Grade, formula, inputs, source and parts of an item."""
    asked = question.asked
    if name == "weights":
        return _weights_facts(question, made)
    if name == "master_weights":
        return {
            "grade": question.inventory.grade,
            "formula": "state_bytes",
            "inputs": {"elements": made.states.trained if asked.recipe.master else 0, "bytes_per_element": 4},
            "source": asked.recipe.source,
            "note": "an fp32 copy of what is trained" if asked.recipe.master else "none in this precision",
        }
    if name == "gradients":
        return _gradient_facts(question, made, amount)
    if name == "optimizer":
        return _optimizer_facts(asked, made.states, made, amount)
    if name == "activations":
        saved = {label: value for label, value in made.trace.parts.items() if is_array(value) or value}
        return {
            "grade": "calibrated" if asked.compile else "derived",
            "formula": "trace of what autograd keeps",
            "inputs": {"parts": saved},
            "source": _oracle(asked),
            "note": _activation_note(asked, saved, made.trace.saved),
        }
    if name == "gathered":
        return (
            _unit_facts(asked, asked.policy) if asked.policy is not None else _gathered_facts(asked, amount)
        )
    if name == "buffers" and made.standing:
        return _buffer_facts(asked, made, amount)
    notes = {
        "logits": f"{asked.loss} loss: logits, copies, gradients",
        "buffers": "gradients of activations and other temporaries",
    }
    return {"grade": "derived", "formula": "trace of a step", "source": _oracle(asked), "note": notes[name]}


def _gathered_facts(asked: Asked, amount: Quantity) -> dict[str, Any]:
    if not is_array(amount) and not amount:
        return {"formula": "none", "note": "no weights are gathered"}
    return {
        "grade": "derived",
        "formula": "trace of fetches",
        "source": asked.recipe.source,
        "note": "weights that are whole, and buffers they come in",
    }


def _buffer_facts(asked: Asked, made: Estimate, amount: Quantity) -> dict[str, Any]:
    """Buffers that are there all the time, by what they are, and what comes and goes."""
    source = _oracle(asked)
    parts = [
        Item(
            label,
            [size],
            phases=LATER,
            grade="derived",
            formula="rule of the framework",
            source=source,
            note=label,
        )
        for label, size in made.standing.items()
    ]
    held = add_up(part.amounts[0] for part in parts)
    rest = made.shares.get("buffers", 0) - held
    told = _parts_told({"temporaries": rest, **made.standing}) if not is_array(rest) else "temporaries"
    for part in parts:
        part.at_peak = part.amounts[0]
    if not is_array(rest) and rest > 0:
        parts.append(
            Item("temporaries", [amount - held], phases=LATER, grade="derived", formula="trace of a step",
                 source=source, note="gradients of activations and other temporaries")
        )  # fmt: skip
        parts[-1].at_peak = rest
    return {"grade": "derived", "formula": "sum of buffers", "source": source, "items": parts, "note": told}


LATER = ("forward", "loss", "backward", "step")


def _unit_facts(asked: Asked, policy: Any) -> dict[str, Any]:
    """What other ranks hold of FSDP's units, while it is here."""
    if policy.degree == 1:
        return {"formula": "none", "note": "nothing is gathered"}
    few = ""
    if policy.reshard is not True:
        few = "; layers stay in parts" if policy.reshard else "; layers stay"
    return {
        "grade": "derived", "formula": "units of a step", "source": f"fsdp{policy.version}",
        "inputs": {"shard_degree": policy.degree, "bytes_per_element": policy.element},
        "note": f"units of {asked.sharding_name.upper()} as they run, and buffers they come in{few}",
    }  # fmt: skip


def _weights_facts(question: Question, made: Estimate) -> dict[str, Any]:
    """Weights by what they are: trained, frozen, adapters, other models."""
    asked = question.asked
    grade = question.inventory.grade
    if asked.scheme is not None:
        grade = worst_grade([grade, asked.scheme.grade])
    source = asked.recipe.source + (", peft-0.21.2" if asked.upcast else "")
    parts = [
        Item(label, [size], phases=ALWAYS, grade=grade, formula="sum of tensors", source=source, note=label)
        for label, size in made.weights.items()
    ]
    return {
        "grade": grade,
        "formula": "sum of tensors",
        "source": source,
        "items": parts if len(parts) > 1 and "params" not in asked.offload else [],
        "note": _parts_told(made.weights),
    }


def _gradient_facts(question: Question, made: Estimate, amount: Quantity) -> dict[str, Any]:
    states, asked = made.states, question.asked
    plain = not is_array(amount) and amount == states.gradients and states.trained
    per = ceil_div(states.gradients, states.trained) if plain else 0
    fits = plain and gradient_bytes(states.trained, per) == amount
    return {
        "grade": question.inventory.grade,
        "formula": "gradient_bytes" if fits else "sum over a step",
        "inputs": {"parameters": states.trained, "bytes_per_element": per} if fits else {},
        "source": asked.recipe.source,
        "note": _gradient_note(asked, states),
    }


def _parts_told(parts: dict[str, Quantity]) -> str:
    """What an item is made of: each with its size where there are several."""
    if len(parts) == 1:
        return next(iter(parts))
    return ", ".join(f"{label} {format_bytes(_last(size))}" for label, size in parts.items())


def _last(value: Quantity) -> int:
    return int(value.max()) if is_array(value) else int(value)


def _gradient_note(asked: Asked, states: Any) -> str:
    if asked.in_backward:
        return "freed as soon as the optimizer has used them"
    if asked.accumulate > 1:
        return f"kept over {asked.accumulate} micro-batches"
    if asked.recipe.persistent:
        return "in a buffer that is there all the time"
    return "all at the step"


def _optimizer_facts(asked: Asked, states: Any, made: Estimate, amount: Quantity) -> dict[str, Any]:
    """States by name, and what the step takes besides."""
    optimizer = asked.optimizer
    parts = [
        Item(
            name,
            [size],
            phases=ALWAYS,
            grade=optimizer.grade,
            formula="state_bytes",
            source=optimizer.source,
            inputs={"elements": states.trained, "bytes_per_element": ceil_div(size, states.trained)}
            if _divides(size, states.trained)
            else {},
            note=name,
        )
        for name, size in states.optimizer.items()
    ]
    for part in parts:
        if not part.inputs:
            part.formula = "rule by the shape of each tensor"
    held = add_up(part.amounts[0] for part in parts)
    shards = asked.policy is not None and "params" in asked.offload  # which take the optimizer along
    away = shards or "optimizer" in asked.offload
    extra = amount - held if not away else 0
    if is_array(extra) or extra:
        parts.append(
            Item(
                "step",
                [extra],
                phases=["step"],
                grade=optimizer.grade,
                formula="step_bytes",
                source=optimizer.source,
                note=optimizer.step_note,
            )
        )
        parts[-1].formula = "copies while the optimizer steps"
    words = ", ".join(states.optimizer)
    note = "on the host" if away else words or "no states"
    if not away and (is_array(extra) or extra):
        note += f"; {format_bytes(_last(extra))} more while it steps"
    return {
        "grade": optimizer.grade,
        "formula": "sum of states",
        "source": optimizer.source,
        "inputs": {"optimizer": optimizer.name},
        "items": [] if away else parts,
        "note": note,
    }


def _divides(size: Quantity, trained: Quantity) -> bool:
    if is_array(size) or is_array(trained) or not trained:
        return False
    return bool(state_bytes(trained, size // trained) == size)


def _activation_note(asked: Asked, parts: dict[str, Quantity], saved: Quantity) -> str:
    most = sorted(parts, key=lambda label: -_last(parts[label]))[:3]
    words = ", ".join(f"{format_bytes(_last(parts[label]))} {label}" for label in most)
    core = "the attention core" if asked.modules == CORE else ", ".join(sorted(asked.modules))
    kept = {"none": "kept", "full": "layer inputs alone", "selective": f"all but {core}"}
    word = str(asked.recompute)
    other = (
        f"{word.replace('-', ' ')} layers of each stage made again"
        if "-" in word
        else f"every {word}th input"
    )
    return f"{kept.get(word, other)}: {words}" if words else ""


def _elsewhere(asked: Asked, question: Question, made: Estimate, states: Any) -> list[Item]:
    """What lies on the host, and a checkpoint on disk."""
    ranks = 1 if asked.mesh is None else min(asked.mesh.per_node, asked.mesh.gpus)  # of one machine
    whose = f", for its {ranks} GPUs" if ranks > 1 else ""
    found = [
        Item(
            f"nvme_{name[: -len(' on NVMe')].replace(' ', '_')}"
            if name.endswith("on NVMe")
            else f"host_{name.replace(' ', '_')}",
            [ranks * size],
            where="disk" if name.endswith("on NVMe") else "host",
            phases=ALWAYS,
            formula="sum of tensors",
            grade="derived",
            source=asked.recipe.source,
            note=f"{name}{whose}"
            if name.endswith("on NVMe")
            else f"{name} in the machine's own memory{whose}",
        )
        for name, size in made.host.items()
    ]
    if asked.mesh is not None:
        states = question.whole()  # a checkpoint is of the model, whoever holds it
    kept = add_up([states.master, *states.optimizer.values(), states.paged])
    model = states.saved if asked.choice.leaves_model else add_up(states.weights.values())
    parts = [
        Item(
            "model file",
            [model],
            where="disk",
            phases=["step"],
            formula="sum of tensors",
            source=asked.recipe.source,
            note="adapters alone" if asked.choice.leaves_model else "all weights",
        ),
        Item(
            "optimizer file",
            [kept],
            where="disk",
            phases=["step"],
            formula="sum of states",
            source=asked.optimizer.source,
            note="states and master weights",
        ),
    ]
    found.append(
        Item(
            "checkpoint",
            [model + kept],
            where="disk",
            phases=["step"],
            grade="derived",
            formula="sum of files",
            source=asked.recipe.source,
            note="what a checkpoint to resume from holds",
            items=parts,
        )
    )
    for item in found:
        item.at_peak = item.amounts[0]
        for part in item.items:
            part.at_peak = part.amounts[0]
    return found
