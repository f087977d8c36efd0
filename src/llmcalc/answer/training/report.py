"""The report of a training step: items, peak, timeline, what else there is to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.items import items_of
from llmcalc.answer.training.question import Estimate, Question
from llmcalc.estimate import Peak
from llmcalc.formula import Quantity, is_array
from llmcalc.model.inventory import Inventory
from llmcalc.report import Report
from llmcalc.units import format_bytes, format_count

if TYPE_CHECKING:
    from llmcalc.hardware import Device


def train_report(question: Question, device: Device | None) -> Report:
    """One step of a model with layers, on a GPU if one is named."""
    made = question.estimate()
    items = items_of(question, made)
    report = Report("train", items, Peak(made.phase, made.rank, made.total, made.low, made.high))
    report.timeline = made
    if device is not None:  # a card holds the process, whatever a metric counts
        report.held_bytes = made.process
        report.margins = (device.usable_low - made.process_high, device.usable_high - made.process_low)
    if question.asked.mesh is not None:
        from llmcalc.answer.training.told import tell_ranks

        tell_ranks(report, question, made)
    describe(report, question, made, device)
    warn(report, question, made)
    return report


def describe(report: Report, question: Question, made: Estimate, device: Device | None) -> None:
    """Heading, scenario and origins."""
    asked, inventory = question.asked, question.inventory
    states = made.states if asked.mesh is None else question.whole()
    trained, total = states.trained, states.total
    report.model = {
        "name": inventory.name,
        "params": inventory.params,
        "active_params": inventory.active_params,
        "stored_params": inventory.stored_params,
        "source": inventory.source,
        "trainable_params": trained,
        "all_params": total,
    }
    report.scenario = scenario_of(asked, device)
    report.origins = {**asked.origins, "context": asked.origins["seq_len"]}
    report.origins["parameters"] = report.origins["elements"] = "the model"
    report.read_from, report.device = inventory.origin, device
    number = trained
    share = ""
    if not is_array(number) and number != total:
        share = f"{format_count(number)} trained ({100 * number / total:.4g} %)"
    per = f"{asked.recipe.name}: {bytes_told(asked)}"
    report.header = [
        inventory.title,
        f"{size_told(inventory)} params",
        how_told(asked),
        *([share] if share else []),
        per,
    ]
    report.header += [asked.optimizer.name, _work(asked), *_ways(asked)]
    if asked.mesh is not None:
        from llmcalc.answer.training.told import layout_told

        report.header += layout_told(asked)
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
        rule.get("of", "all") == "all"
        and rule.get("shape", "full") == "full"
        and rule.get("dtype", "parameter") == "parameter"
        for rule in rules
    )
    parts = [recipe.weights + recipe.copies, *([recipe.master] if recipe.master else []), recipe.gradients]
    words = " + ".join(map(str, parts))
    if not plain:
        return f"{words} + states by shape B/param"
    held = len(rules) * recipe.state_element
    return f"{words} + {held} = {sum(parts) + held} B/param"


def how_told(asked: Asked) -> str:
    """What is trained, in few words."""
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


def size_told(inventory: Inventory) -> str:
    """Parameters for the heading, active ones too where they differ."""
    total = format_count(inventory.params)
    if inventory.routed_params:
        return f"{total} ({format_count(inventory.active_params)} active)"
    return total


def _ways(asked: Asked) -> list[str]:
    """How the step is computed, defaults included."""
    recompute = asked.recompute if isinstance(asked.recompute, str) else f"every-{asked.recompute}"
    words = [f"recompute {recompute}", f"{asked.attention} attention", f"{asked.loss} loss"]
    words.append(asked.implementation)
    words += ["compiled"] if asked.compile else []
    return [*words, *(f"{part} on the host" for part in sorted(asked.offload))]


def _work(asked: Asked) -> str:
    def span(value: Quantity) -> str:
        return f"{int(value.min()):,} to {int(value.max()):,}" if is_array(value) else f"{value:,}"

    text = f"{span(asked.batch)} x {span(asked.seq)} tokens"
    return text + (f" x {asked.accumulate}" if asked.accumulate > 1 else "")


def spread_of(asked: Asked) -> dict[str, Any]:
    """The layout as resolved."""
    from llmcalc.answer.training.told import spread_values

    return spread_values(asked)


def scenario_of(asked: Asked, device: Device | None) -> dict[str, Any]:
    """Every input as resolved."""
    values, choice = asked.values, asked.choice
    made: dict[str, Any] = {
        "method": choice.method,
        "precision": asked.recipe.name,
        "optimizer": asked.optimizer.name,
        "dtype": asked.dtype.name,
        "bits": None,
        "quant": values["quant"],
        "context": asked.seq,
        "micro_batch": asked.batch,
        "grad_accum": asked.accumulate,
        "recompute": values["recompute"],
        "attention": asked.attention,
        "loss": asked.loss,
        "recipe": asked.implementation,
        "padded": asked.padded,
        "keep_logits": asked.keep_logits,
        "compile": asked.compile,
        "optimizer_in_backward": asked.in_backward,
        "ema": asked.ema,
        "offload": ",".join(sorted(asked.offload)) or None,
        "metric": asked.metric,
        "like": asked.like,
        "reference": getattr(asked.reference, "name", asked.reference),
        "teacher": getattr(asked.teacher, "name", asked.teacher),
        **({} if asked.mesh is None else spread_of(asked)),
        "gpu": None if device is None else device.name,
        "reserve": asked.reserve,
    }
    if choice.method in ("lora", "qlora", "dora"):
        made |= {
            "lora_r": choice.rank,
            "lora_targets": values["lora_targets"],
            "adapter_dtype": "fp32" if choice.adapter_bytes == 4 else "16 bit",
            "lora_dropout": values["lora_dropout"],
            "kbit_upcast": asked.upcast,
        }
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


def warn(report: Report, question: Question, made: Estimate) -> None:
    """What the reader should know, and what to try."""
    asked, states, inventory = question.asked, made.states, question.inventory
    report.warnings += asked.notes + inventory.warnings
    if states.small and asked.optimizer.entry.get("block"):
        report.warnings.append(
            f"{states.small:,} trained tensors have fewer than {asked.optimizer.entry['least']:,} elements: "
            f"{asked.optimizer.name} keeps their states in fp32."
        )
    adapted = any(role.startswith("expert_") for _, _, role in asked.choice.targets)
    if asked.choice.method in ("lora", "qlora", "dora") and inventory.routed_params and not adapted:
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
