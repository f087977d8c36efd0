"""What llama-server puts on GPUs by itself, and what to tell it where a model does not fit."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from typing import Any

from llmcalc.engine_options.llama import is_prediction
from llmcalc.errors import InputError
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines.llamacpp.amounts import Amounts
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.memory.engines.llamacpp.items import RUNTIME
from llmcalc.model.inventory import Inventory
from llmcalc.planning.fitted import Fitted
from llmcalc.planning.fitting import TARGET, fit
from llmcalc.planning.solve import settled
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import GIB, MIB

LENGTHS = {"context", "max_model_len", "prompt", "output", "n_ctx"}
"""Keywords that set a context."""

PLACING = {
    "gpu_layers": "-ngl", "n_cpu_moe": "--n-cpu-moe", "override_tensor": "-ot", "tensor_split": "-ts",
}  # fmt: skip
"""Keywords that place layers or tensors, by llama.cpp's name: ``--fit`` then leaves them alone."""


BACKENDS = {"AMD": "ROCm", "Apple": "MTL", "Intel": "Vulkan"}
"""How llama.cpp names the devices of a vendor, a number after it."""


def free_bytes(device: Device) -> int:
    """What llama.cpp finds free on an idle device: usable memory less its own context. [B]"""
    return device.usable_bytes - RUNTIME.get(device.vendor, RUNTIME[""])[1]


def fitted(
    make: Callable[[Any], Deployment], scenario: Scenario, device: Device | None, stored: Inventory,
    margin: int = TARGET,
) -> tuple[Scenario, Fitted]:  # fmt: skip
    """The scenario with what llama-server chooses, and how it came to it.

    Raises
    ------
    InputError
        Without a GPU, for arrays, and for a context left open that nobody limits.
    """
    if device is None:
        raise InputError("--fit needs a GPU to fit on.", "Add --gpu, for example --gpu rtx-4090.")
    if is_array(scenario.context) or is_array(scenario.sequences):
        raise InputError("--fit chooses for one context at a time.", "Give one value, or leave --fit out.")
    slots = int(scenario.sequences)
    made = copy.copy(scenario)
    options = copy.copy(scenario.options)
    is_open = not scenario.stated & LENGTHS
    if is_open and not stored.context:
        raise InputError(
            f"--fit starts from the model's longest context, and {stored.name} states none.",
            "Give one: --context 8192.",
        )
    if options.n_ctx is None and not is_open:
        options.n_ctx = int(scenario.context) * slots
    fixed = fixed_by(scenario)
    free = [free_bytes(device)] * (device.count or 1)
    chosen = fit(make, options, slots, free, stored.context or 0, margin, fixed)
    made.options = chosen.options
    if is_open:
        total = chosen.options.n_ctx
        limit = stored.context or total
        made.context = min(total, limit) if options.kv_unified else total // slots
    return made, chosen


def fixed_by(scenario: Scenario) -> str:
    """The option that places layers or tensors, which llama-server then leaves there; empty if none."""
    placed = [name for key, name in PLACING.items() if key in scenario.stated]
    if scenario.options.gpu_layers is None and "-ngl" in placed:  # -ngl auto
        placed.remove("-ngl")
    return placed[0] if placed else ""


def tell(report: Report, chosen: Fitted, scenario: Scenario, fixed: str) -> None:
    """What was chosen, and the command line that does the same."""
    options, slots = chosen.options, int(scenario.sequences)
    report.settled = scenario
    report.scenario |= {"fit_target": TARGET}
    if not scenario.stated & LENGTHS:
        for name in ("context", "tokens", "positions"):
            report.origins[name] = "chosen by --fit"
    if options.n_ctx < chosen.whole_context:
        report.warnings.append(
            f"--fit shortens the context from {chosen.whole_context:,} to {options.n_ctx:,} tokens"
            f"{' over all slots' if slots > 1 else ''}."
        )
    if chosen.refused:
        report.warnings.append(f"--fit stops here: {chosen.refused}.")
    if not chosen.fits:
        report.warnings.append(shortfall(chosen, TARGET))
    if not scenario.stated & {"sequences", "parallel"}:
        report.hints.append(
            "Without -np llama-server takes 4 slots that share one cache: --parallel 4 --kv-unified."
        )
    longest = report.capacity.max_context if report.capacity is not None else None
    report.as_placed = not fixed
    if longest is not None and longest < (report.context_limit or 0) and not fixed:
        report.hints.append("With a longer context --fit leaves more of the model to the CPU.")
    report.hints.append(f"The same by hand: {command_line(report, options, slots)}")


def shortfall(chosen: Fitted, margin: int) -> str:
    """Which GPUs keep less free than they shall, by how much, and why llama.cpp's search ends so."""
    missing = chosen.missing
    many, short = len(missing), [place for place, own in enumerate(missing) if own]

    def name(place: int) -> str:
        return f"GPU {place + 1}" if many > 1 else "the GPU"

    text = f"Not even so {margin // MIB:,} MiB stay free" + (" on each GPU" if many > 1 else "")
    text += ": " + ", ".join(f"{name(place)} lacks {-(-missing[place] // MIB):,} MiB" for place in short)
    # Layers are taken while a device holds what it may: one that was not full before them grew after.
    grown = [place for place in short if chosen.bare and chosen.bare[place] <= chosen.targets[place]]
    if grown:
        own = " and ".join(map(name, grown))
        copies = " (all layers on GPUs are a pipeline, which keeps copies)" if chosen.is_pipeline else ""
        text += (
            f". llama.cpp chooses the layers of {own} before those of others, which make its buffers larger"
            f"{copies}, and does not measure it again"
        )
    elif chosen.shares and not any(chosen.shares[place].layers for place in short):
        text += ", even without a layer"
    elif not chosen.shares and not chosen.refused:
        text += ". llama.cpp takes the context from a line between two trials, and does not measure it again"
    return f"{text}. llama-server tries it."


def command_line(report: Report, options: Any, slots: int, model: str = "MODEL.gguf") -> str:
    """The call of llama-server with every choice spelled out; `model` is quoted already."""
    words = ["llama-server", "-m", model, "-c", str(options.n_ctx), "-np", str(slots)]
    if options.kv_unified:
        words.append("--kv-unified")
    words += ["-ngl", "all" if options.gpu_layers is None else str(options.gpu_layers)]
    if options.split:
        words += ["-ts", ",".join(f"{share:g}" for share in options.split)]
    if options.n_cpu_moe:
        words += ["--n-cpu-moe", str(options.n_cpu_moe)]
    if options.overrides:
        vendor = report.device.vendor if report.device is not None else ""
        backend = BACKENDS.get(vendor, "CUDA")
        placed = [
            f"{pattern}={'CPU' if where == 'host' else backend + where}"
            for pattern, where in options.overrides
        ]
        words += ["-ot", shlex.quote(",".join(placed))]
    if options.ubatch != 512:
        words += ["-b", str(options.batch), "-ub", str(options.ubatch)]
    for letter in "kv":
        kept = report.scenario[f"kv_dtype_{letter}"]
        if kept != "fp16":
            words += [f"-ct{letter}", {"fp32": "f32"}.get(kept, kept)]
    words += ["--swa-full"] if options.swa_full else []
    words += _beside_words(options)
    words += [] if options.flash_attn else ["-fa", "off"]
    return " ".join([*words, "--fit", "off"])


def _beside_words(options: Any) -> list[str]:
    """What is loaded beside the model, as llama-server is told."""
    words = []
    if options.mmproj is not None:
        words += ["--mmproj", "MMPROJ.gguf" if options.mmproj == "on" else shlex.quote(options.mmproj)]
        words += [] if options.mmproj_offload else ["--no-mmproj-offload"]
    for name in options.lora:
        words += ["--lora", "ADAPTER.gguf" if name.startswith("r=") else shlex.quote(name)]
    if options.draft is not None:
        own = is_prediction(options.draft)
        words += ["--spec-type", "draft-mtp"] if own else ["--spec-type", "draft-simple", "-md", "DRAFT.gguf"]
        words += ["--spec-draft-n-max", str(options.draft_max)]
    return words + (["--no-repack"] if options.repack == "off" else [])


def hints(
    make: Callable[[Any], Deployment], scenario: Scenario, device: Device, runtime: int
) -> list[str]:  # fmt: skip
    """What to tell llama.cpp so that a model fits that does not: fewest experts away, most layers.

    Parameters
    ----------
    make : callable
        A deployment for options.
    scenario : Scenario
        What does not fit.
    device : Device
        On what.
    runtime : int
        What a process takes beside its buffers on each device. [B]
    """
    context, slots = int(scenario.context), int(scenario.sequences)
    usable = device.usable_bytes - runtime

    def amounts(exact: bool, **changes: int) -> Amounts:
        options = copy.copy(scenario.options)
        for name, value in changes.items():
            setattr(options, name, value)
        return make(options).amounts(context, slots, exact)

    def room(exact: bool, **changes: int) -> int:
        found = amounts(exact, **changes)
        most = max(found.on_device(place) for place in range(device.count or 1))
        if not device.shared_bytes:
            return usable - most
        return min(usable - most, device.shared_low - runtime - most - found.on_host())

    deployment = make(scenario.options)
    on, away = deployment.offloaded, scenario.options.n_cpu_moe
    if device.shared_bytes and _least(room, deployment) < 0:
        return [
            "GPU and host share one memory, so layers on the CPU free none of it; take a smaller --quant or "
            "a shorter context."
        ]
    if not on:
        return ["Not even the buffers fit with all layers on the CPU; take a shorter context."]
    told: list[str] = []
    routed = [place for place, layer in enumerate(deployment.layers) if layer.has("expert_down")]
    if routed:
        last = routed[-1] + 1
        if away < last and room(True, n_cpu_moe=last) >= 0:
            kept = settled(lambda n, exact: room(exact, n_cpu_moe=last - n), last - away - 1)
            told.append(
                f"--n-cpu-moe {last - kept} is the least that fits: "
                f"{_beside(amounts(False, n_cpu_moe=last - kept))}."
            )
            return told
        away = max(away, last)
    most = settled(lambda n, exact: room(exact, gpu_layers=n, n_cpu_moe=away), on - 1)
    with_experts = f" with --n-cpu-moe {away}" if routed else ""
    if not most and room(True, gpu_layers=0, n_cpu_moe=away) < 0:
        return [f"Not even -ngl 0{with_experts} fits; take a shorter context or a smaller --ubatch."]
    held = amounts(False, gpu_layers=most, n_cpu_moe=away)
    return [f"-ngl {most} is the most that fits{with_experts}: {_beside(held)}."]


def _least(room: Callable[..., int], deployment: Deployment) -> int:
    """What is left with as little on GPUs as can be, or with all that is there now if that is more. [B]"""
    away = max((p + 1 for p, layer in enumerate(deployment.layers) if layer.has("expert_down")), default=0)
    found = room(True, gpu_layers=0, n_cpu_moe=away)
    return max(found, room(True, n_cpu_moe=away)) if away else found


def _beside(amounts: Amounts) -> str:
    """What lies on the host then."""
    parts = [f"{amounts.weights[-1] / GIB:.2f} GiB of weights"]
    kept = amounts.kv[-1] + amounts.state[-1]
    if kept:
        parts.append(f"{kept / GIB:.2f} GiB of caches")
    return f"{' and '.join(parts)} then stay on the CPU"
