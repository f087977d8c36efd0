"""Memory of PPO and GRPO: one question, from keywords to reports."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.asked import Asked, resolve
from llmcalc.answer.training.rl.asked import RlAsked, resolve_rl
from llmcalc.answer.training.rl.question import RlQuestion
from llmcalc.answer.training.rl.report import rl_report
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, Problems
from llmcalc.formula import is_array
from llmcalc.model import readers
from llmcalc.model.inventory import Inventory
from llmcalc.precision import stored_as_declared
from llmcalc.report import Call, Report, Reports

if TYPE_CHECKING:
    from llmcalc.hardware import Device


def rl_train(source: tuple[Any, Any, Any, Any], asked: dict[str, Any], book: Catalog) -> Report | Reports:
    """One iteration of PPO or GRPO.

    Parameters
    ----------
    source : tuple
        Model, count, configuration and family of `llmcalc.train`.
    asked : dict
        All its keywords.
    book : Catalog
        For models and GPUs.
    """
    inventory, training, rl, models = understand(source, asked, book)
    devices: list[Device | None] = [*training.devices] or [None]
    reports = []
    for device in devices:
        question = RlQuestion(inventory, training, rl, book, device, models, asked)
        report = rl_report(question, device)
        report.later = partial(_help, report, question, asked, book)
        report.sign(Call("train", asked), book)
        reports.append(report)
    return reports[0] if len(reports) == 1 else Reports(reports)


def _help(report: Report, question: RlQuestion, asked: dict[str, Any], book: Catalog) -> None:
    """What would help where it does not surely fit; without a GPU the smallest cards."""
    if report.device is None:
        from llmcalc.hardware import smallest_cards

        report.told.cards = smallest_cards(int(report.range_bytes[1]) + question.asked.reserve, book)
    elif report.verdict != "fits":
        from llmcalc.answer.training.rl.advice import help_it

        help_it(report, question, asked, book)


def understand(
    source: tuple[Any, Any, Any, Any], asked: dict[str, Any], book: Catalog
) -> tuple[Inventory, Asked, RlAsked, dict[str, Inventory]]:
    """Read the models and resolve the rest, telling the mistakes of all together."""
    model, params, config, assume = source
    problems = Problems()
    inventory = None
    with problems:
        inventory = stored_as_declared(readers.read_only(model, params, config, assume, book), book)
        _needs_layers(inventory, "The policy")
    with problems:
        if asked["teacher"] is not None:
            raise InputError("--teacher is for distillation, not for --rl.", "Leave --teacher out.")
    rl = None
    with problems:
        rl = resolve_rl(asked, asked["reference"], _gpus(asked, book))
    if inventory is None or rl is None:
        problems.check()
    assert inventory is not None
    assert rl is not None
    given = {
        key: value for key, value in asked.items() if key not in ("model", "params", "config", "catalog")
    }
    given |= {"seq_len": rl.length, "context": None, "reference": None, "teacher": None}
    training = None
    with problems:
        training = resolve(inventory, book, given)
        _refuse(training, rl)
    models: dict[str, Inventory] = {}
    for name in ("reference", "critic", "reward"):
        value = getattr(rl, name)
        with problems:
            if value is None or (name != "reference" and _is_same(value)):
                continue
            if _is_same(value):
                if training is not None and not training.choice.leaves_model:
                    models[name] = inventory
                continue
            other = stored_as_declared(readers.read(value, book, assume), book)
            _needs_layers(other, f"The {name} model")
            models[name] = other
    problems.check()
    assert training is not None
    _check_prompts(training, rl)
    return inventory, training, rl, models


def _is_same(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() == "same"


def _needs_layers(inventory: Inventory, what: str) -> None:
    if inventory.is_opaque:
        raise InputError(f"{what} of --rl is a bare count.", "Name a model or its config.json.")
    if inventory.family == "header":
        raise InputError(
            f"{inventory.name}: the header tells the weights, not the layers.",
            "Put the model's config.json beside it.",
        )


def _gpus(asked: dict[str, Any], book: Catalog) -> int | None:
    """GPUs that train: those of --gpu, else the product of the layout. [-]"""
    if asked["gpu"] is not None:
        from llmcalc.answer.training.asked import _this_machine
        from llmcalc.errors import LlmcalcError
        from llmcalc.hardware import parse_gpus

        try:
            return next((device.count or 1 for device in parse_gpus(asked["gpu"], book, _this_machine)), 1)
        except LlmcalcError:  # told where the training is resolved
            return None
    degrees = [asked[key] for key in ("tp", "pp", "cp", "dp")]
    product = 1
    for degree in degrees:
        product *= int(degree) if str(degree or "").isdigit() else 1
    return product


def _refuse(training: Asked, rl: RlAsked) -> None:
    """What can't go together with an iteration."""
    for option, value in (
        ("--micro-batch", training.batch), ("--seq-len", training.seq), ("--lora-r", training.choice.rank),
    ):  # fmt: skip
        if is_array(value):
            raise InputError(f"{option} is an array, and --rl takes one number.", "Ask one at a time.")
    if training.loss == "none":
        raise InputError("--loss none has no log-probabilities.", "Use --loss eager or fused.")
    if training.loss == "chunked":
        raise InputError(
            "--loss chunked is for the next token's cross-entropy, not for log-probabilities.",
            "Use --loss eager (the framework's own) or fused.",
        )
    if training.metric == "memtracker":
        raise InputError(
            "--metric memtracker sees one step, not an iteration.", "Use nvidia-smi, reserved or allocated."
        )
    if training.choice.tokens:
        raise InputError(
            f"--method {training.method} is not modelled with --rl.", "Use full, lora, qlora or freeze."
        )
    mesh = training.mesh
    if rl.engine == "transformers" and mesh is not None and mesh.tp * mesh.pp * mesh.cp > 1:
        raise InputError(
            "--rollout transformers needs the whole model on each GPU.", "Use --rollout vllm or sglang."
        )


def _check_prompts(training: Asked, rl: RlAsked) -> None:
    """The answers of an iteration must fill the steps that are made of them."""
    if rl.prompts is None:
        return
    replicas = 1 if training.mesh is None else training.mesh.dp
    step, answers = int(training.batch) * training.accumulate * replicas, rl.prompts * rl.group
    if answers < step:
        raise InputError(
            f"--prompts {rl.prompts} x {rl.group} answers are fewer than the {step} sequences of one step.",
            f"Use --prompts {-(-step // rl.group)} or more, or a smaller --micro-batch or --grad-accum.",
        )


__all__ = ["rl_train"]
