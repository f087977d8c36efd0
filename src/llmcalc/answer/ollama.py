"""Memory of Ollama: llama.cpp's, with the context, batch, GPUs and layers that Ollama takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from llmcalc.answer.common import stored_bytes
from llmcalc.answer.llamacpp import builder, reported, tell_shared
from llmcalc.answer.offload import LENGTHS, fitted, free_bytes, shortfall
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError
from llmcalc.estimate import INFERENCE_PHASES, Item, find_peak
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines import ollama
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.memory.engines.llamacpp.items import rank_names
from llmcalc.memory.engines.llamacpp.projector import projector_bytes
from llmcalc.model.inventory import Inventory
from llmcalc.planning.fitted import Fitted
from llmcalc.planning.fitting import TARGET
from llmcalc.precision.gguf import MTP_KEPT, File
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import GIB, MIB, format_bytes

KV_TYPES = ("fp16", "q8_0", "q4_0")
"""What OLLAMA_KV_CACHE_TYPE may be."""

QUANT = "q4_k_m"
"""What a model without a tag is in Ollama's library, as a rule."""


class _Tag(File):
    """A file type that nobody named: exact in itself, assumed to be the one."""

    __slots__ = ()

    def apply(self, inventory: Inventory, model: str) -> Inventory:
        """The inventory as this file holds it."""
        made = super().apply(inventory, model)
        self.grade = "assumed"
        return made


class _Server:
    """What Ollama passes to llama-server for one model on given GPUs."""

    def __init__(self, make: Callable[[Any], Deployment], stored: Inventory, scenario: Scenario) -> None:
        self.options, self.stated = scenario.options, scenario.stated
        first = make(self.options)
        self.heads = ollama.heads_of(stored, first.layers, first.hidden)
        self.file = stored_bytes(stored, first.precision)
        self.layers = len(first.layers) + 1
        self.free: list[int] = []
        self.cuda = True

    def predicted(self, n_ctx: int) -> int:
        """What the scheduler expects. [B]"""
        return ollama.predicted_bytes(self.file, *self.heads, n_ctx)

    def adapt(self, options: Any, tokens: int, slots: int) -> None:
        """Set total context and batch for a context and slots."""
        options.n_ctx = tokens * slots
        if "ubatch" not in self.stated:
            options.ubatch = options.batch = ollama.batch_of(
                options.n_ctx, self.predicted(options.n_ctx), self.free, options.flash_attn, self.cuda
            )

    def projector_on_gpu(self, size: int, is_unknown: bool) -> bool:
        """Whether the projector goes to a GPU; to an unknown one it does."""
        asked = self.options.gpu_layers
        if (asked is not None and asked < self.layers) or not (self.free or is_unknown):
            return False
        return all(own >= size + ollama.HEADROOM for own in self.free)


def ollama_report(inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog) -> Report:
    """What the llama-server that Ollama starts reserves for a model."""
    _check(scenario)
    asked = scenario.stated
    scenario = copy.copy(scenario)
    scenario.options = copy.copy(scenario.options)
    notes = _file(inventory, scenario)
    notes += _lengths(inventory, scenario, device)
    make, stored = builder(inventory, scenario, device, book)
    server = _Server(make, stored, scenario)
    n_ctx = int(scenario.context) * int(scenario.sequences)
    if device is not None:
        server.free = [free_bytes(device)] * (device.count or 1)
        server.cuda = device.vendor in ("NVIDIA", "")
        alone = len(server.free) > 1 and scenario.options.gpu_layers != 0
        if alone and ollama.one_is_enough(server.predicted(n_ctx), server.free[0]):
            notes.append(f"One of the {len(server.free)} GPUs is enough: Ollama loads the model on it alone.")
            device = _single(device)
            make, stored = builder(inventory, scenario, device, book)
            server.free = server.free[:1]
    server.adapt(scenario.options, int(scenario.context), int(scenario.sequences))
    projector = projector_bytes(inventory)
    on_gpu = bool(projector) and server.projector_on_gpu(projector, device is None)
    margin = -(-(projector + ollama.HEADROOM) // MIB) * MIB if on_gpu else TARGET
    chosen: Fitted | None = None
    if scenario.options.fit and device is not None:
        scenario, chosen = fitted(make, scenario, device, stored, margin)
    kept, apart = margin if chosen is not None else 0, (projector, 0) if on_gpu else (0, projector)
    report = reported(make(scenario.options), scenario, device, stored, "Ollama", server.adapt, kept, apart)
    report.as_placed = chosen is not None
    if projector:
        _add_projector(report, projector, on_gpu, make(scenario.options))
    _tell(report, scenario, server, chosen, margin)
    tell_shared(report)
    of_ollama = () if asked & LENGTHS else ("context", "tokens", "positions")
    for name in (*of_ollama, *(("quant",) if "quant" in scenario.stated - asked else ())):
        report.origins[name] = "default of Ollama"
    notes += _drafts(inventory)
    report.warnings = notes + [told for told in report.warnings if "(mmproj), not counted" not in told]
    return report


def _check(scenario: Scenario) -> None:
    """Refuse what Ollama has no setting for."""
    if is_array(scenario.context) or is_array(scenario.sequences):
        raise InputError(
            "Ollama chooses layers and batch for one context at a time.",
            "Give one value, or use --engine llama.cpp.",
        )
    if scenario.key.name != scenario.value.name:
        raise InputError(
            f"Ollama keeps keys and values in one type, not {scenario.key.name} and {scenario.value.name}.",
            "Use --kv-dtype q8_0 or q4_0: OLLAMA_KV_CACHE_TYPE.",
        )
    if scenario.key.name not in KV_TYPES:
        raise InputError(
            f"Ollama keeps no cache in {scenario.key.name}.",
            "Use --kv-dtype f16, q8_0 or q4_0: OLLAMA_KV_CACHE_TYPE.",
        )
    if scenario.key.name != "fp16" and not scenario.options.flash_attn:
        raise InputError(
            f"Without flash attention Ollama keeps no cache in {scenario.key.name}.",
            "Leave --flash-attn off out, or use --kv-dtype f16.",
        )
    if scenario.bits is not None:
        raise InputError(
            "Ollama reads GGUF files, whose types have names.",
            "Use --quant q4_k_m, q8_0 ... instead of --bits.",
        )


def _file(inventory: Inventory, scenario: Scenario) -> list[str]:
    """The file that Ollama's library has by default, where none was named."""
    if inventory.source == "gguf" or scenario.stated & {"quant", "dtype", "bits"} or inventory.is_opaque:
        return []
    if "mxfp4" in str(getattr(scenario.scheme, "name", "")):
        return []  # its tag keeps the checkpoint's own format
    scenario.scheme = _Tag(QUANT)
    scenario.stated = scenario.stated | {"quant"}
    return [f"Ollama's tag is taken to be {QUANT}, its usual default; --quant says otherwise."]


def _lengths(inventory: Inventory, scenario: Scenario, device: Device | None) -> list[str]:
    """Slots and the context of each, as Ollama sets them."""
    notes = []
    slots = int(scenario.sequences)
    if slots > 1 and inventory.family in ollama.ONE_SLOT:
        notes.append(
            f"Ollama serves {inventory.family} one request at a time; --parallel {slots} is ignored."
        )
        scenario.sequences = 1
    scenario.options.parallel = int(scenario.sequences)
    if not scenario.stated & LENGTHS:
        memory = (device.usable_high + scenario.reserve) * (device.count or 1) if device is not None else 0
        scenario.context = ollama.default_context(memory, inventory.context)
        tier = f"{memory / GIB:.1f} GiB of GPU memory" if memory else "no GPU named"
        notes.append(
            f"num_ctx {scenario.context:,} is Ollama's default here ({tier}); --context sets it, as num_ctx "
            "or OLLAMA_CONTEXT_LENGTH do."
        )
    if inventory.context and scenario.context > inventory.context:
        notes.append(f"Ollama cuts num_ctx to the model's {inventory.context:,} tokens.")
        scenario.context = inventory.context
    if any(group.component == "vision" for group in inventory.groups):
        scenario.context = max(int(scenario.context), ollama.LEAST_WITH_IMAGES)
    scenario.stated = scenario.stated | {"context"}
    return notes


def _drafts(inventory: Inventory) -> list[str]:
    """What the prediction layers of a file add."""
    if inventory.family not in MTP_KEPT or all(g.component != "mtp" for g in inventory.groups):
        return []
    return [
        "Where the file holds the prediction layer, Ollama drafts with it; its caches and buffers, and "
        "copies of states to go back to, are not counted."
    ]


def _single(device: Device) -> Device:
    """One of several equal GPUs."""
    one = copy.copy(device)
    one.count = 1
    return one


def _add_projector(report: Report, size: int, on_gpu: bool, deployment: Deployment) -> None:
    """The file of vision and audio towers, on the first GPU or on the host."""
    many = max(deployment.devices, 1)
    name, where = ("projector", "device") if on_gpu else ("host_projector", "host")
    values: list[Any] = [size if place == 0 or not on_gpu else 0 for place in range(many)]
    note = "vision and audio towers, mmproj in fp16"
    item = Item(
        name, values, where=where, phases=INFERENCE_PHASES, grade="assumed", formula="tensors x 2 bytes",
        inputs={"bytes": size}, source=ollama.SOURCE, note=note,
    )  # fmt: skip
    place = next(i for i, own in enumerate(report.items) if own.name == "runtime") + 1
    report.items = (*report.items[:place], item, *report.items[place:])
    report.peak = find_peak(report.items, rank_names(deployment), INFERENCE_PHASES)
    told = "Its buffers are not counted; Ollama keeps 1 GiB free for them." if on_gpu else (
        "Ollama leaves it on the CPU: it wants its size and 1 GiB free on each GPU, and all layers there."
    )  # fmt: skip
    report.warnings.append(f"The projector takes {format_bytes(size, 'gib')}. {told}")


def _tell(
    report: Report, scenario: Scenario, server: _Server, chosen: Fitted | None, margin: int
) -> None:  # fmt: skip
    """What Ollama passes on, and what its scheduler expects."""
    options = scenario.options
    predicted = server.predicted(options.n_ctx)
    surcharge = ollama.SURCHARGE.get(options.ubatch, 0)
    report.scenario |= {
        "fit": chosen is not None, "fit_target": margin, "predicted_bytes": predicted + surcharge,
    }  # fmt: skip
    report.scenario["engine_version"] = ollama.VERSIONS
    text = f"Ollama's scheduler expects {format_bytes(predicted + surcharge, 'gib')} before it loads"
    if server.free:
        room = sum(server.free) * ollama.THRESHOLD // 100
        verb = "evicts" if predicted + surcharge > room else "keeps"
        text += (
            f" and {verb} other models: {ollama.THRESHOLD} % of what is free is {format_bytes(room, 'gib')}"
        )
    report.hints.append(f"{text}.")
    if chosen is not None and not chosen.fits:
        report.warnings.append(shortfall(chosen, margin))
    if chosen is not None and chosen.shares:
        report.hints.append(
            "llama-server leaves layers or experts on the CPU to keep "
            f"{margin // MIB:,} MiB of each GPU free; num_gpu (--gpu-layers) overrides it."
        )
