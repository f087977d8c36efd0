"""DeepSpeed's stages of sharing: what goes along with them, and what they do not allow."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.words import one_word
from llmcalc.errors import InputError
from llmcalc.memory.training.parallel.zero_settings import DEVICES, ZeroSettings
from llmcalc.memory.training.precisions import Recipe

GOES_ALONG = {"precision": "deepspeed-bf16", "optimizer": "adamw-fused", "adapter_dtype": "bf16"}
"""What DeepSpeed does where nothing else is said: all weights, adapters too, are cast to 16 bit."""

AUTOCAST = {"bf16-mixed": "deepspeed-bf16", "fp16-mixed": "deepspeed-fp16"}
"""A Trainer's mixed precision is DeepSpeed's own as soon as that runs it."""

ALLOWED = ("deepspeed-bf16", "deepspeed-fp16", "bf16-mixed", "fp16-mixed", "fp32")


def is_deepspeed(asked: Any, given: dict[str, Any]) -> bool:
    """Whether DeepSpeed runs the step."""
    if str(asked.values.get("recipe")).strip().lower() == "megatron":
        return False
    if asked.told is not None and asked.told.zero is not None:
        return True
    zero = str(given["zero"]).strip().lower()
    if given["zero"] is None or zero in ("off", "none", "false"):
        return False
    return zero != "0" or str(given["precision"]).lower().startswith("deepspeed")


def go_along(asked: Any, given: dict[str, Any]) -> None:
    """Settings that follow from DeepSpeed."""
    if not is_deepspeed(asked, given):
        return
    values, origins = asked.values, asked.origins
    filed = asked.told.name if asked.told is not None else ""
    for key, value in GOES_ALONG.items():
        if origins[key] == "default":
            values[key], origins[key] = value, "as DeepSpeed does"
    automatic = asked.told is not None and asked.told.dtypes.get("auto")
    said = {filed} if automatic else {filed, "given"}  # "auto" takes the Trainer's own setting
    if origins["precision"] not in said and values["precision"] in AUTOCAST:
        values["precision"] = AUTOCAST[values["precision"]]
        origins["precision"] = f"{origins['precision']}, under DeepSpeed"


def choose_zero(asked: Any, given: dict[str, Any]) -> None:
    """Set DeepSpeed's settings, after all single settings are known.

    Raises
    ------
    InputError
        If a stage does not go together with something else.
    """
    to = given["offload_to"]
    if not is_deepspeed(asked, given):
        if to is not None and one_word(to, DEVICES[1:], "--offload-to") == "nvme":
            raise InputError("--offload-to nvme is DeepSpeed's.", "Add --zero 3, or use --offload-to cpu.")
        return
    told = asked.told
    filed = told is not None and told.zero is not None
    settings: ZeroSettings = told.zero if filed else ZeroSettings()
    if given["zero"] is not None:
        settings.stage = int(one_word(given["zero"], ("0", "1", "2", "3"), "--zero"))
    _place(asked, given, settings)
    _precision(asked, settings, told.dtypes if filed else {})
    _refuse(asked, given, settings)
    asked.zero = settings
    asked.takes_gradients = settings.stage >= 2 or (
        settings.stage == 1 and settings.overlaps and asked.accumulate == 1
    )


def _place(asked: Any, given: dict[str, Any], settings: ZeroSettings) -> None:
    """Where optimizer and weights lie; what is given wins over a file."""
    if given["offload"] is not None:
        to = one_word(given["offload_to"] or "cpu", DEVICES[1:], "--offload-to")
        for name, part in (("optimizer", settings.optimizer), ("params", settings.params)):
            wanted = name in asked.offload
            part.device = (
                (part.device if part.away and given["offload_to"] is None else to) if wanted else "none"
            )
    elif given["offload_to"] is not None:
        to = one_word(given["offload_to"], DEVICES[1:], "--offload-to")
        parts = [part for part in (settings.optimizer, settings.params) if part.away]
        if not parts:
            raise InputError("--offload-to says where, and nothing is offloaded.", "Add --offload optimizer.")
        for part in parts:
            part.device = to
    away = {
        name for name, part in (("optimizer", settings.optimizer), ("params", settings.params)) if part.away
    }
    if "gradients" in asked.offload and "optimizer" not in away:
        raise InputError(
            "--offload gradients: DeepSpeed keeps gradients where the optimizer is.",
            "Use --offload optimizer.",
        )
    asked.offload = frozenset(away | (asked.offload & {"activations"}))


def _precision(asked: Any, settings: ZeroSettings, dtypes: dict[str, Any]) -> None:
    """Refuse what DeepSpeed has not; masters and states in 16 bit where a file says so."""
    recipe = asked.recipe
    if recipe.name not in ALLOWED:
        kind = "deepspeed-fp16" if "fp16" in recipe.name else "deepspeed-bf16"
        raise InputError(
            f"--precision {recipe.name}: DeepSpeed keeps 16-bit weights with fp32 copies, or trains in fp32.",
            f"Use --precision {kind}, bf16-mixed (its torch_autocast) or fp32.",
        )
    masters, states = dtypes.get("masters", 4), dtypes.get("states", 4)
    if masters == 4 or recipe.master == 0:
        return
    if states == 4 and not settings.optimizer.away:
        raise InputError(
            "16-bit master weights need DeepSpeed's optimizer on the host, or 16-bit states too.",
            "Add offload_optimizer, or bf16_optimizer_states.",
        )
    asked.recipe = Recipe(
        recipe.name, 2, 2, 2, states, 2, f"16-bit masters, states in {8 * states} bit", source=recipe.source
    )


def _refuse(asked: Any, given: dict[str, Any], settings: ZeroSettings) -> None:
    stage = settings.stage
    if given["fsdp"] is not None and str(given["fsdp"]).strip().lower() not in ("0", "off", "none", "false"):
        raise InputError("--fsdp and --zero share the same states in two ways.", "Keep one of them.")
    if settings.params.away and stage < 3:
        raise InputError(
            f"--offload params: ZeRO-{stage} keeps all weights on every GPU.",
            "Use --zero 3, or leave it out.",
        )
    if settings.optimizer.away and stage == 0:
        raise InputError("--offload optimizer needs a stage of ZeRO from 1 on.", "Use --zero 1, 2 or 3.")
    if settings.optimizer.device == "nvme" and stage < 3:
        raise InputError(
            f"--offload-to nvme: ZeRO-{stage} offloads to the host alone.",
            "Use --zero 3, or --offload-to cpu.",
        )
    if asked.in_backward or asked.optimizer.in_backward:
        raise InputError(
            "DeepSpeed steps when all gradients are there, not in the backward pass.",
            "Leave --optimizer-in-backward out, or --zero.",
        )
    rules = asked.optimizer.entry.get("states", [])
    shaped = any(rule.get("shape", "full") != "full" or rule.get("of", "all") != "all" for rule in rules)
    if stage and shaped:
        raise InputError(
            f"{asked.optimizer.name} needs whole matrices; ZeRO-{stage} lays parameters end to end.",
            "Use adamw, lion or another optimizer with one state for each parameter, or --zero 0.",
        )
    if settings.secondary > 1 and stage < 3:
        settings.secondary = 1


def refuse_mesh(mesh: Any, settings: ZeroSettings) -> None:
    """Refuse layouts that DeepSpeed does not run.

    Raises
    ------
    InputError
        With what would do.
    """
    stage = settings.stage
    if mesh.pp > 1 and stage >= 2:
        raise InputError(
            f"--zero {stage} with --pp {mesh.pp}: DeepSpeed's pipeline keeps whole gradients"
            + (" and whole weights." if stage == 3 else "."),
            "Use --zero 1, or --pp 1.",
        )
    if mesh.ep > 1 and stage == 3:
        raise InputError(
            f"--zero 3 with --ep {mesh.ep}: DeepSpeed shares experts among ranks up to stage 2.",
            "Use --zero 2, or --ep 1.",
        )
    ranks = mesh.replicas
    for name, number in (
        ("zero_hpz_partition_size", settings.secondary),
        ("mics_shard_size", settings.shard),
    ):
        if number > 1 and ranks % number:
            raise InputError(
                f"{name} {number} does not divide the {ranks} GPUs that share the model.",
                f"Use a divisor of {ranks}.",
            )
