"""Model states of a bare count of parameters."""

from __future__ import annotations

from llmcalc.answer.training.asked import Asked
from llmcalc.answer.training.report import bytes_told, scenario_of
from llmcalc.errors import InputError
from llmcalc.estimate import Item, Peak, add_up
from llmcalc.formula import ceil_div
from llmcalc.hardware import Device
from llmcalc.memory.training.optimizers import Shape
from llmcalc.memory.training.runtime import runtime_item
from llmcalc.memory.training.timeline import PHASES as ALWAYS
from llmcalc.model.inventory import Inventory
from llmcalc.report import Report
from llmcalc.units import format_bytes


def _items(number: int, asked: Asked) -> list[Item]:
    """What can be told without layers: weights, master weights, gradients and states."""
    recipe, optimizer = asked.recipe, asked.optimizer
    shape = Shape(1, number, 1, frozenset({"all", "matrix", "hidden"}))
    states = optimizer.states(shape, recipe.state_element)
    by = _shares(asked)

    def plain(name: str, each: int, rule: str, first: str, phases: tuple[str, ...], note: str) -> Item:
        ranks = by[name.partition("_")[0]]
        held = ceil_div(number, ranks) if ranks else 0
        note = "on the host" if not ranks else note if ranks == 1 else f"{note}, shared by {ranks} GPUs"
        return Item(
            name, [held * each], phases=phases, formula=rule, source=recipe.source, note=note,
            inputs={first: held, "bytes_per_element": each},
        )  # fmt: skip

    each = recipe.weights + recipe.copies
    made = 0 if asked.in_backward else recipe.gradients
    told = "freed at once" if asked.in_backward else f"{recipe.gradients} B a parameter"
    return [
        plain("weights", each, "state_bytes", "elements", ALWAYS, f"{each} B a parameter"),
        plain("master_weights", recipe.master, "state_bytes", "elements", ALWAYS, f"{recipe.master} B"),
        plain("gradients", made, "gradient_bytes", "parameters", ("backward", "step"), told),
        Item(
            "optimizer",
            [
                ceil_div(add_up(size for _, size, resident in states if resident), by["optimizer"])
                if by["optimizer"]
                else 0
            ],
            phases=ALWAYS,
            grade=optimizer.grade,
            formula="sum of states",
            inputs={"optimizer": optimizer.name},
            source=optimizer.source,
            note=", ".join(name for name, _, _ in states) or "no states",
        ),
        *(
            Item(name, [0], phases=("forward",), formula="none", note="needs the layers: name the model")
            for name in ("activations", "logits", "gathered", "buffers")
        ),
    ]


def _shares(asked: Asked) -> dict[str, int]:
    """GPUs that share each kind of state; 0 where it lies on the host."""
    mesh, kinds = asked.mesh, ("weights", "master", "gradients", "optimizer")
    by = dict.fromkeys(kinds, 1)
    if mesh is not None:
        if mesh.tp * mesh.pp * mesh.cp * mesh.ep > 1:
            raise InputError(
                f"{mesh.told}: how a bare count is cut is not known.",
                "Name a model, or share states alone with --zero.",
            )
        shared = asked.sharding(asked).shared
        by = {kind: mesh.replicas if kind in shared else 1 for kind in kinds}
    away = set(asked.offload)
    if "optimizer" in away:
        away |= {"master"} | ({"gradients"} if asked.zero is not None and asked.zero.stage > 1 else set())
    if "params" in away:
        away.add("weights")
    return {kind: 0 if kind in away else ranks for kind, ranks in by.items()}


def count_report(inventory: Inventory, asked: Asked, device: Device | None) -> Report:
    """Model states of a bare count: what its layers would hold is not known."""
    recipe, number = asked.recipe, inventory.params
    items = _items(number, asked)
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
        "name": inventory.name,
        "params": number,
        "active_params": number,
        "stored_params": number,
        "source": inventory.source,
        "trainable_params": number,
        "all_params": number,
    }
    report.scenario = scenario_of(asked, device)
    report.origins, report.read_from, report.device = dict(asked.origins), inventory.origin, device
    report.header = [inventory.title, f"{asked.recipe.name}: {bytes_told(asked)}", asked.optimizer.name]
    if asked.mesh is not None:
        from llmcalc.answer.training.told import layout_told

        report.gpus = asked.mesh.gpus
        report.header += layout_told(asked)
    report.warnings.append(
        "A bare count has no layers: activations and logits are not counted; name the model."
    )
    extra = asked.optimizer.step_bytes(number * recipe.weights, 0, recipe.weights)
    if extra:
        report.hints.append(
            f"While it steps, {asked.optimizer.name} copies {asked.optimizer.step_note}: "
            f"{format_bytes(extra)} more; --optimizer adamw-fused works in place."
        )
    return report
