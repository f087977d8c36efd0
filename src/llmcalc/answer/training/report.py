"""The report of a training step: items, peak, timeline, what else there is to know."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.common import size_of
from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.question import Estimate, Question
from llmcalc.catalog import Catalog
from llmcalc.estimate import Item, Peak, add_up, worst_grade
from llmcalc.formula import Quantity, ceil_div, is_array, larger
from llmcalc.hardware import Device
from llmcalc.memory.training.formulas import gradient_bytes, state_bytes
from llmcalc.memory.training.timeline import NAMES, PHASES
from llmcalc.model.inventory import Inventory
from llmcalc.report import Report
from llmcalc.units import format_bytes, format_count

ALWAYS = PHASES
SPREADS = {"activations": (65, 90, 75)}
"""Range of what compiled code keeps, low and high, beside what is taken. [%]"""

STEP = ("forward", "loss", "backward")


def train_report(question: Question, device: Device | None) -> Report:
    """One step of a model with layers, on a GPU if one is named."""
    asked = question.asked
    made = question.estimate()
    items = _items(question, made)
    low, high = _range(asked, items, made)
    report = Report("train", items, Peak(made.phase, "all", made.total, low, high))
    report.timeline = made
    _describe(report, question, made, device)
    _warn(report, question, made)
    return report


def _items(question: Question, made: Estimate) -> list[Item]:
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
        _share_parts(item)
        found.append(item)
    found.append(made.runtime)
    made.runtime.at_peak = made.runtime.amounts[0]
    _share_parts(made.runtime)
    found += _elsewhere(asked, question, made, states)
    return found


def _share_parts(item: Item) -> None:
    """Parts that are there whole whenever the item is."""
    whole = not is_array(item.at_peak) and not is_array(item.bytes) and item.at_peak == item.bytes
    for part in item.items:
        if whole or is_array(item.at_peak) or "step" not in part.phases or len(part.phases) > 1:
            part.at_peak = part.amounts[0]


def _facts(name: str, question: Question, made: Estimate, amount: Quantity) -> dict[str, Any]:
    """Grade, formula, inputs, source and parts of an item."""
    asked, states, recipe = question.asked, made.states, question.asked.recipe
    exact = question.inventory.grade
    trained = states.trained
    if name == "weights":
        parts = [
            Item(label, [size], phases=ALWAYS, grade=exact, formula="sum of tensors", source=recipe.source,
                 note=label)
            for label, size in made.weights.items()
        ]  # fmt: skip
        kept = parts if len(parts) > 1 and "params" not in asked.offload else []
        return {"grade": exact, "formula": "sum of tensors", "source": recipe.source, "items": kept,
                "note": _parts_told(made.weights)}  # fmt: skip
    if name == "master_weights":
        return {"grade": exact, "formula": "state_bytes", "inputs": {"elements": trained, "bytes_per_element": 4},
                "source": recipe.source,
                "note": "an fp32 copy of what is trained" if recipe.master else "none in this precision"}  # fmt: skip
    if name == "gradients":
        plain = not is_array(amount) and amount == states.gradients and trained
        per = ceil_div(states.gradients, trained) if plain else 0
        fits = plain and gradient_bytes(trained, per) == amount
        return {"grade": exact, "formula": "gradient_bytes" if fits else "sum over a step",
                "inputs": {"parameters": trained, "bytes_per_element": per} if fits else {},
                "source": recipe.source, "note": _gradient_note(asked, states)}  # fmt: skip
    if name == "optimizer":
        return _optimizer_facts(asked, states, made, amount)
    trace = made.trace
    if name == "activations":
        parts = {label: value for label, value in trace.parts.items() if is_array(value) or value}
        grade = "calibrated" if asked.compile else "derived"
        return {"grade": grade, "formula": "trace of what autograd keeps", "inputs": {"parts": parts},
                "source": "activation-oracle", "note": _activation_note(asked, parts, trace.saved)}  # fmt: skip
    notes = {
        "logits": f"{asked.loss} loss: logits, copies, gradients",
        "gathered": "nothing is sharded",
        "buffers": "gradients of activations and other temporaries",
    }
    rule = "none" if name == "gathered" else "trace of a step"
    return {"grade": "exact" if name == "gathered" else "derived", "formula": rule,
            "source": "" if name == "gathered" else "activation-oracle", "note": notes[name]}  # fmt: skip


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
        Item(name, [size], phases=ALWAYS, grade=optimizer.grade, formula="state_bytes", source=optimizer.source,
             inputs={"elements": states.trained, "bytes_per_element": ceil_div(size, states.trained)}
             if _divides(size, states.trained) else {}, note=name)
        for name, size in states.optimizer.items()
    ]  # fmt: skip
    for part in parts:
        if not part.inputs:
            part.formula = "rule by the shape of each tensor"
    held = add_up(part.amounts[0] for part in parts)
    away = "optimizer" in asked.offload
    extra = amount - held if not away else 0
    if is_array(extra) or extra:
        parts.append(
            Item("step", [extra], phases=["step"], grade=optimizer.grade, formula="step_bytes",
                 source=optimizer.source, note=optimizer.step_note)
        )  # fmt: skip
        parts[-1].formula = "copies while the optimizer steps"
    words = ", ".join(states.optimizer)
    note = "on the host" if away else words or "no states"
    if not away and (is_array(extra) or extra):
        note += f"; {format_bytes(_last(extra))} more while it steps"
    return {"grade": optimizer.grade, "formula": "sum of states", "source": optimizer.source,
            "inputs": {"optimizer": optimizer.name}, "items": [] if away else parts, "note": note}  # fmt: skip


def _divides(size: Quantity, trained: Quantity) -> bool:
    if is_array(size) or is_array(trained) or not trained:
        return False
    return bool(state_bytes(trained, size // trained) == size)


def _activation_note(asked: Asked, parts: dict[str, Quantity], saved: Quantity) -> str:
    most = sorted(parts, key=lambda label: -_last(parts[label]))[:3]
    words = ", ".join(f"{format_bytes(_last(parts[label]))} {label}" for label in most)
    kept = {"none": "kept", "full": "layer inputs alone", "selective": "all but the attention core"}
    return f"{kept.get(str(asked.recompute), f'every {asked.recompute}th input')}: {words}" if words else ""


def _elsewhere(asked: Asked, question: Question, made: Estimate, states: Any) -> list[Item]:
    """What lies on the host, and a checkpoint on disk."""
    found = [
        Item(f"host_{name.replace(' ', '_')}", [size], where="host", phases=ALWAYS, formula="sum of tensors",
             grade="derived", source=asked.recipe.source, note=f"{name} in the machine's own memory")
        for name, size in made.host.items()
    ]  # fmt: skip
    kept = add_up([states.master, *states.optimizer.values(), states.paged])
    model = states.saved if asked.choice.leaves_model else add_up(states.weights.values())
    parts = [
        Item("model file", [model], where="disk", phases=["step"], formula="sum of tensors", source=asked.recipe.source,
             note="adapters alone" if asked.choice.leaves_model else "all weights"),
        Item("optimizer file", [kept], where="disk", phases=["step"], formula="sum of states",
             source=asked.optimizer.source, note="states and master weights"),
    ]  # fmt: skip
    found.append(
        Item("checkpoint", [model + kept], where="disk", phases=["step"], grade="derived", formula="sum of files",
             source=asked.recipe.source, note="what a checkpoint to resume from holds", items=parts)
    )  # fmt: skip
    for item in found:
        item.at_peak = item.amounts[0]
        for part in item.items:
            part.at_peak = part.amounts[0]
    return found


def _range(asked: Asked, items: list[Item], made: Estimate) -> tuple[Quantity, Quantity]:
    """Low and high of the total at the peak."""
    low = made.allocated + made.runtime.low[0]
    high = made.allocated + made.runtime.high[0]
    if asked.compile:
        least, most, taken = SPREADS["activations"]
        held = made.shares.get("activations", 0)
        low = low - ceil_div(held * (taken - least), taken)
        high = high + ceil_div(held * (most - taken), taken)
    return low, high


def _describe(report: Report, question: Question, made: Estimate, device: Device | None) -> None:
    """Heading, scenario and origins."""
    asked, inventory, states = question.asked, question.inventory, made.states
    report.model = {
        "name": inventory.name, "params": inventory.params, "active_params": inventory.active_params,
        "stored_params": inventory.stored_params, "source": inventory.source,
        "trainable_params": states.trained, "all_params": states.total,
    }  # fmt: skip
    report.scenario = scenario_of(asked, device)
    report.origins = {**asked.origins, "context": asked.origins["seq_len"]}
    report.origins["parameters"] = report.origins["elements"] = "the model"
    report.read_from, report.device = inventory.origin, device
    number = states.trained
    share = ""
    if not is_array(number) and number != states.total:
        share = f"{format_count(number)} trained ({100 * number / states.total:.4g} %)"
    per = f"{asked.recipe.name}: {bytes_told(asked)}"
    report.header = [
        inventory.title,
        f"{size_of(inventory)} params",
        _how(asked),
        *([share] if share else []),
        per,
    ]
    report.header += [asked.optimizer.name, _work(asked)]
    if asked.like:
        report.header.append(f"like {asked.like}")


def bytes_told(asked: Asked) -> str:
    """Bytes of a trained parameter, each copy by itself, where the optimizer keeps whole states.

    Adapters have a dtype of their own.
    """
    recipe = asked.recipe
    if asked.choice.leaves_model:
        return f"{asked.choice.adapter_bytes} B adapters"
    rules = asked.optimizer.entry.get("states", [])
    plain = all(
        rule.get("of", "all") == "all" and rule.get("shape", "full") == "full"
        and rule.get("dtype", "parameter") == "parameter" for rule in rules
    )  # fmt: skip
    parts = [recipe.weights + recipe.copies, *([recipe.master] if recipe.master else []), recipe.gradients]
    words = " + ".join(map(str, parts))
    if not plain:
        return f"{words} + states by shape B/param"
    held = len(rules) * recipe.state_element
    return f"{words} + {held} = {sum(parts) + held} B/param"


def _how(asked: Asked) -> str:
    choice = asked.choice
    if choice.method in ("lora", "qlora", "dora"):
        rank = "ranks" if is_array(choice.rank) else f"r {choice.rank}"
        base = f" over {asked.values['quant']}" if asked.values["quant"] not in (None, "none") else ""
        words = asked.values["lora_targets"]
        named = words if isinstance(words, str) else ",".join(words)
        return f"{choice.method}{base}, {rank} on {named}"
    if choice.method == "bottleneck":
        return f"bottleneck adapters of {choice.rank}"
    if choice.tokens:
        return f"{choice.method} of {choice.tokens} tokens"
    if choice.method == "freeze":
        return f"trained: {', '.join(choice.trained) or 'all but ' + ', '.join(choice.frozen)}"
    return "full" + (f" but {', '.join(choice.frozen)}" if choice.frozen else "")


def _work(asked: Asked) -> str:
    def span(value: Quantity) -> str:
        return f"{int(value.min()):,} to {int(value.max()):,}" if is_array(value) else f"{value:,}"

    text = f"{span(asked.batch)} x {span(asked.seq)} tokens"
    return text + (f" x {asked.accumulate}" if asked.accumulate > 1 else "")


def scenario_of(asked: Asked, device: Device | None) -> dict[str, Any]:
    """Every input as resolved."""
    values, choice = asked.values, asked.choice
    made: dict[str, Any] = {
        "method": choice.method, "precision": asked.recipe.name, "optimizer": asked.optimizer.name,
        "dtype": asked.dtype.name, "bits": None, "quant": values["quant"], "context": asked.seq,
        "micro_batch": asked.batch, "grad_accum": asked.accumulate, "recompute": values["recompute"],
        "attention": asked.attention, "loss": asked.loss, "recipe": asked.implementation,
        "padded": asked.padded, "keep_logits": asked.keep_logits, "compile": asked.compile,
        "optimizer_in_backward": asked.in_backward, "ema": asked.ema,
        "offload": ",".join(sorted(asked.offload)) or None, "metric": asked.metric, "like": asked.like,
        "reference": getattr(asked.reference, "name", asked.reference),
        "teacher": getattr(asked.teacher, "name", asked.teacher),
        "gpu": None if device is None else device.name, "reserve": asked.reserve,
    }  # fmt: skip
    if choice.method in ("lora", "qlora", "dora"):
        made |= {
            "lora_r": choice.rank, "lora_targets": values["lora_targets"],
            "adapter_dtype": "fp32" if choice.adapter_bytes == 4 else "16 bit", "lora_dropout": values["lora_dropout"],
            "kbit_upcast": asked.upcast,
        }  # fmt: skip
    if choice.method == "bottleneck":
        made |= {"adapter_size": choice.rank, "adapter_kind": values["adapter_kind"]}
    if choice.tokens:
        made["virtual_tokens"] = choice.tokens
    for name in ("trained", "frozen", "saved"):
        if getattr(choice, name):
            made[{"trained": "trainable", "frozen": "freeze", "saved": "modules_to_save"}[name]] = ",".join(
                getattr(choice, name)
            )
    return made


def _warn(report: Report, question: Question, made: Estimate) -> None:
    """What the reader should know, and what to try."""
    asked, states, inventory = question.asked, made.states, question.inventory
    report.warnings += asked.notes + inventory.warnings
    if states.small and asked.optimizer.entry.get("block"):
        report.warnings.append(
            f"{states.small:,} trained tensors have fewer than {asked.optimizer.entry['least']:,} elements: "
            f"{asked.optimizer.name} keeps their states in fp32."
        )
    if asked.choice.method in ("lora", "qlora", "dora") and inventory.routed_params:
        if not any(role.startswith("expert_") for _, _, role in asked.choice.targets):
            report.warnings.append(
                "Experts share one tensor in transformers 5, which all-linear leaves alone: no adapters on them."
            )
    if asked.choice.leaves_model and not is_array(states.saved) and states.saved:
        size = format_bytes(states.saved)
        report.hints.append(
            f"Merged into the weights the adapters cost nothing when serving; apart each takes {size} and "
            "adds two small products to every linear it stands on."
            if asked.choice.method in ("lora", "qlora", "dora")
            else f"When serving, each adapter takes {size} and adds its own work; it can't be merged."
        )
    if asked.loss == "eager" and made.phase == "loss":
        report.hints.append("The loss is the peak; --loss chunked or fused lowers it.")


def count_report(inventory: Inventory, asked: Asked, device: Device | None, book: Catalog) -> Report:
    """Model states of a bare count: what its layers would hold is not known."""
    from llmcalc.memory.training.optimizers import Shape

    recipe, number = asked.recipe, inventory.params
    shape = Shape(1, number, 1, frozenset({"all", "matrix", "hidden"}))
    states = asked.optimizer.states(shape, recipe.state_element)
    kept = add_up(size for _, size, resident in states if resident)
    rule = {"grade": "exact", "source": recipe.source}
    items = [
        Item("weights", [number * (recipe.weights + recipe.copies)], phases=ALWAYS, formula="state_bytes",
             inputs={"elements": number, "bytes_per_element": recipe.weights + recipe.copies},
             note=f"{recipe.weights + recipe.copies} B a parameter", **rule),
        Item("master_weights", [number * recipe.master], phases=ALWAYS, formula="state_bytes",
             inputs={"elements": number, "bytes_per_element": recipe.master}, note=f"{recipe.master} B", **rule),
        Item("gradients", [0 if asked.in_backward else number * recipe.gradients], phases=("backward", "step"),
             formula="gradient_bytes", inputs={"parameters": number, "bytes_per_element": recipe.gradients},
             note="freed at once" if asked.in_backward else f"{recipe.gradients} B a parameter", **rule),
        Item("optimizer", [kept], phases=ALWAYS, grade=asked.optimizer.grade, formula="sum of states",
             inputs={"optimizer": asked.optimizer.name}, source=asked.optimizer.source,
             note=", ".join(name for name, _, _ in states) or "no states"),
    ]  # fmt: skip
    for name in ("activations", "logits", "gathered", "buffers"):
        items.append(Item(name, [0], phases=("forward",), formula="none", grade="assumed" if name == "activations" else "exact",
                          note="needs the layers: name the model"))  # fmt: skip
    from llmcalc.memory.training.runtime import runtime_item

    total = add_up(item.amounts[0] for item in items)
    runtime = runtime_item(total, asked.metric, "" if device is None else device.name)
    items.append(runtime)
    for item in items:
        item.at_peak = item.amounts[0]
        for part in item.items:
            part.at_peak = part.amounts[0]
    peak = Peak("step", "all", total + runtime.amounts[0], total + runtime.low[0], total + runtime.high[0])
    report = Report("train", items, peak)
    report.model = {
        "name": inventory.name, "params": number, "active_params": number, "stored_params": number,
        "source": inventory.source, "trainable_params": number, "all_params": number,
    }  # fmt: skip
    report.scenario = scenario_of(asked, device)
    report.origins, report.read_from, report.device = dict(asked.origins), inventory.origin, device
    report.header = [inventory.title, f"{asked.recipe.name}: {bytes_told(asked)}", asked.optimizer.name]
    report.warnings.append(
        "A bare count has no layers: activations and logits are not counted; name the model."
    )
    extra = asked.optimizer.step_bytes(number * recipe.weights, 0, recipe.weights)
    if extra:
        report.hints.append(
            f"While it steps, {asked.optimizer.name} makes {asked.optimizer.step_note}: {format_bytes(extra)} more; "
            "--optimizer adamw-fused works in place."
        )
    return report
