"""What llama-server puts on GPUs by itself, and what to tell it where a model does not fit."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from typing import Any

from llmcalc.answer.llamacpp import settled
from llmcalc.engine_options import is_prediction
from llmcalc.errors import InputError
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines.llamacpp.amounts import Amounts
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.memory.engines.llamacpp.items import RUNTIME
from llmcalc.model.inventory import Inventory
from llmcalc.planning.fitting import TARGET, Fitted, fit
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
    placed = [key for key in PLACING if key in scenario.stated]
    if options.gpu_layers is None and "gpu_layers" in placed:  # -ngl auto
        placed.remove("gpu_layers")
    fixed = PLACING[placed[0]] if placed else ""
    free = [free_bytes(device)] * (device.count or 1)
    chosen = fit(make, options, slots, free, stored.context or 0, margin, fixed)
    made.options = chosen.options
    if is_open:
        total = chosen.options.n_ctx
        limit = stored.context or total
        made.context = min(total, limit) if options.kv_unified else total // slots
    return made, chosen


def tell(report: Report, chosen: Fitted, scenario: Scenario) -> None:
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
        report.warnings.append(
            f"Not even so {TARGET // MIB:,} MiB stay free on each GPU, as --fit wants: llama-server tries it."
        )
    if not scenario.stated & {"sequences", "parallel"}:
        report.hints.append(
            "Without -np llama-server takes 4 slots that share one cache: --parallel 4 --kv-unified."
        )
    report.hints.append(f"The same by hand: {command_line(report, options, slots)}")


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
        return usable - max(found.on_device(place) for place in range(device.count or 1))

    deployment = make(scenario.options)
    on, away = deployment.offloaded, scenario.options.n_cpu_moe
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


def _beside(amounts: Amounts) -> str:
    """What lies on the host then."""
    parts = [f"{amounts.weights[-1] / GIB:.2f} GiB of weights"]
    kept = amounts.kv[-1] + amounts.state[-1]
    if kept:
        parts.append(f"{kept / GIB:.2f} GiB of caches")
    return f"{' and '.join(parts)} then stay on the CPU"
