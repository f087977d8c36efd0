"""Memory of llama.cpp: what it prints at start-up, what fits, and how to make it fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.answer.common import needs_layers, precision_of, priced, report_of, size_of, workload_of
from llmcalc.answer.room import Room, attach_capacity
from llmcalc.catalog import Catalog
from llmcalc.engine_options.llama import has_extras
from llmcalc.errors import InputError
from llmcalc.estimate import INFERENCE_PHASES, find_peak, worst_grade
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.memory.engines.llamacpp.items import llama_items, rank_names
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import GIB

OTHER_GRAPHS = {
    "fork": "ik_llama.cpp's caches are modelled, its compute buffers not: those of llama.cpp stand for them.",
    "build": "Builds of 2023 had one scratch buffer, not modelled: later compute buffers stand for it.",
}
"""What is told where another program's graphs are taken."""

BACKENDS = {"AMD": "cuda", "Apple": "metal", "Intel": "vulkan"}
"""ggml's backend for each vendor's cards; ROCm is CUDA's code."""


def llama_report(inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog) -> Report:
    """What llama.cpp reserves for a model, on each GPU and on the host."""
    from llmcalc.answer import offload

    make, stored = builder(inventory, scenario, device, book)
    if not scenario.options.fit:
        report = reported(make(scenario.options), scenario, device, stored)
        is_open = device is not None and not _arrays(scenario) and not scenario.quick
        if device is not None and is_open and (report.headroom_bytes or 0) < 0:
            runtime = report["runtime"].bytes
            report.hinting = lambda: offload.hints(make, scenario, device, runtime)
        tell_shared(report)
        return report
    fixed = offload.fixed_by(scenario)  # as asked: the search sets the same options
    scenario, chosen = offload.fitted(make, scenario, device, stored)
    report = reported(make(scenario.options), scenario, device, stored)
    offload.tell(report, chosen, scenario, fixed)
    tell_shared(report)
    return report


def tell_shared(report: Report) -> None:
    """What device and host take together of one memory, where that decides."""
    device = report.device
    if device is None or not report.is_shared or is_array(report.total_bytes):
        return
    both = report.total_bytes + report.host_bytes
    if device.shared_low - both < device.usable_bytes - report.total_bytes:
        report.warnings.append(
            f"GPU and host share {device.shared_bytes / GIB:.2f} GiB: together they take {both / GIB:.2f}, "
            f"and the system is taken to keep {(device.shared_bytes - device.shared_low) / GIB:.2f}."
        )


def reported(
    deployment: Deployment, scenario: Scenario, device: Device | None, stored: Inventory,
    engine: str = "llama.cpp", adapt: Callable[[Any, int, int], None] | None = None, kept: int = 0,
    apart: tuple[int, int] = (0, 0),
) -> Report:  # fmt: skip
    """A deployment as a report.

    Parameters
    ----------
    deployment : Deployment
        The model where it lies.
    scenario : Scenario
        What was asked, and chosen for the user.
    device : Device or None
        Its GPUs.
    stored : Inventory
        The model as its file holds it.
    engine : str
        For the heading.
    adapt : callable, optional
        Changes options for a context and slots, where they depend on them.
    kept : int
        What a longer context must leave on each device so that layers stay where they are. [B]
    apart : tuple of int
        What lies beside the deployment, on each device and on the host. [B]
    """
    grade = worst_grade([deployment.precision.grade, stored.grade])
    items = llama_items(
        deployment, scenario.context, scenario.sequences, device.vendor if device else "", grade,
        _notes(deployment, scenario),
    )  # fmt: skip
    placement = Placement(1, max(deployment.devices, 1), 1, max(len(deployment.layers), 1))
    report = report_of("vram", stored, scenario, placement, items, device)
    report.peak = find_peak(items, rank_names(deployment), INFERENCE_PHASES)
    report.scenario |= _resolved(deployment, scenario)
    report.gpus = max(deployment.devices, 1)
    report.header = [
        stored.title, f"{size_of(stored)} params", priced(stored, scenario, deployment.precision),
        engine, workload_of(scenario),
    ]  # fmt: skip
    report.placement = [_placed(deployment)]
    report.warnings += scenario.notes + stored.warnings + _warnings(deployment, scenario, stored)
    if scenario.options.mmproj is not None:
        report.warnings = [told for told in report.warnings if "(mmproj), not counted" not in told]
    for extra in deployment.extras:
        report.warnings += extra.warnings
    if device is not None and deployment.devices and not _arrays(scenario) and not scenario.quick:
        attach_capacity(report, Room(deployment, device, report, adapt, kept, apart), scenario, stored)
    return report


def builder(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog
) -> tuple[Callable[[Any], Deployment], Inventory]:
    """What deploys a model on so many GPUs by any options, and the model as a GGUF file.

    Raises
    ------
    InputError, ConfigError
        For what llama.cpp can't do.
    """
    needs_layers(inventory, scenario.engine)
    if scenario.tp not in (None, 1) or scenario.dp not in (None, 1):
        raise InputError(
            f"{scenario.engine} splits layers over GPUs, not tensors.",
            "Leave --tp and --dp out: --gpu 2xrtx-3090.",
        )
    count = (device.count or 1) if device is not None else scenario.pp or 1
    if device is None and scenario.options.gpu_layers == 0:
        count = 0
    if scenario.pp not in (None, count):
        raise InputError(f"--pp {scenario.pp} is not the {count} GPUs of --gpu.", "Leave --pp out.")
    stored = as_file(inventory, scenario, book)
    precision = precision_of(stored, scenario, book)
    backend = BACKENDS.get(device.vendor, "cuda") if device is not None else "cuda"
    extras: list[Any] = []
    if has_extras(scenario.options):
        from llmcalc.answer.beside import Built, extras_of

        extras = extras_of(inventory, Built(stored, precision, count, backend), scenario, book)

    def make(options: Any) -> Deployment:
        return Deployment(stored, precision, options, count, backend, extras)

    return make, stored


def as_file(inventory: Inventory, scenario: Scenario, book: Catalog) -> Inventory:
    """The inventory as a GGUF file holds it: as asked, else in the checkpoint's 16 bit."""
    from llmcalc.precision.gguf import File

    if inventory.source == "gguf" and "quant" not in scenario.stated:
        return inventory
    if scenario.bits is not None:
        return scenario.stored(inventory)
    scheme = scenario.scheme
    foreign = "quant" in scenario.stated and scheme is not None and not isinstance(scheme, File)
    if foreign and not scheme.dtype and scheme.name != "none":
        raise InputError(
            f"{scenario.engine} reads GGUF files; {scheme.name} is not one of its types.",
            "Use --quant q4_k_m, q8_0, bf16 ...; llmcalc formats lists them.",
        )
    if not isinstance(scheme, File):
        scheme = _default_file(scheme, scenario)
        scenario.scheme = scheme
    made: Inventory = scheme.apply(inventory, scenario.dtype.name)
    made.published = None
    return made


def _default_file(scheme: Any, scenario: Scenario) -> Any:
    """The file that the converter writes by default."""
    from llmcalc.precision.gguf import File

    name = str(getattr(scheme, "name", "")) if scheme is not None else ""
    if "mxfp4" in name:
        return File("mxfp4_moe")
    return File({"fp16": "f16", "fp32": "f32"}.get(scenario.dtype.name, "bf16"))


def _arrays(scenario: Scenario) -> bool:
    return is_array(scenario.context) or is_array(scenario.sequences)


def _resolved(deployment: Deployment, scenario: Scenario) -> dict[str, Any]:
    """The engine's options, those that were left open as they came out."""
    found: dict[str, Any] = scenario.options.to_dict()
    if found["gpu_layers"] is None:
        found["gpu_layers"] = deployment.offloaded
    if not _arrays(scenario):
        if found["parallel"] is None:
            found["parallel"] = int(scenario.sequences)
        if found["n_ctx"] is None:
            slots = 1 if found["kv_unified"] else int(scenario.sequences)
            found["n_ctx"] = int(scenario.context) * slots
    return found


def _notes(deployment: Deployment, scenario: Scenario) -> dict[str, str]:
    """A few words for the line of each item."""
    options, layers = deployment.options, len(deployment.layers)
    on, moe = deployment.offloaded, deployment.bare
    notes = {"weights": "all layers" if on > layers else f"{on} of {layers + 1} layers"}
    left = ["embeddings", *([f"{layers + 1 - on} layers"] if on <= layers else [])]
    if moe:
        notes["weights"] += f", without the experts of {moe}"
        left.append(f"experts of {moe} layers")
    notes["host_weights"] = ", ".join(left)
    if deployment.devices > 1:
        notes["weights"] += ", split over GPUs"
    attention = "flash" if options.flash_attn else "plain"
    notes["activations"] = f"{attention} attention, {options.ubatch} tokens"
    notes["host_activations"] = "inputs, and what runs on the CPU"
    if not _arrays(scenario):
        settings = deployment.settings(int(scenario.context), int(scenario.sequences))
        notes["activations"] = f"{attention} attention, {settings.tokens} tokens"
        notes["kv_cache"] = f"{settings.streams} x {settings.cells:,} cells"
        if settings.window_cells != settings.cells:
            notes["kv_cache"] += f", {settings.window_cells:,} for windows"
        notes["host_kv_cache"] = notes["kv_cache"]
    return notes


def _placed(deployment: Deployment) -> str:
    if not deployment.devices:
        return "on the CPU"
    text = f"{deployment.offloaded} of {len(deployment.layers) + 1} layers on GPU"
    return text + (f", experts of {deployment.bare} on the CPU" if deployment.bare else "")


def _warnings(deployment: Deployment, scenario: Scenario, inventory: Inventory) -> list[str]:
    found = []
    if deployment.doubt in OTHER_GRAPHS:
        found.append(OTHER_GRAPHS[deployment.doubt])
    if deployment.doubt == "family":
        found.append(
            f"llama.cpp may not run {inventory.family}, or by a graph that is not modelled: its buffers are "
            "taken to be those of a usual decoder."
        )
    asked, most = scenario.options.gpu_layers, len(deployment.layers) + 1
    if asked is not None and asked > most:
        found.append(f"-ngl {asked} is above the {most} layers there are (the output is one): all of them.")
    away, layers = scenario.options.n_cpu_moe, len(deployment.layers)
    if away and not inventory.routed_params:
        found.append(f"--n-cpu-moe {away} moves nothing: {inventory.name} has no routed experts.")
    elif away > layers:
        found.append(f"--n-cpu-moe {away} is above the {layers} layers there are: all of them.")
    if scenario.options.all_outputs and deployment.doubt != "build":
        found.append(
            "Builds before mid-2026 reserve logits for every position of a batch; their graphs are taken "
            "to be those of today otherwise."
        )
    return found
