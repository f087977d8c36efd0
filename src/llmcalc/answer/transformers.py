"""Memory of Hugging Face transformers: weights, its caches, and the peaks of prefill and decode."""

from __future__ import annotations

from copy import copy
from typing import Any

from llmcalc.answer.common import (
    check_formats,
    needs_layers,
    placement_of,
    precision_of,
    priced,
    ranks_of,
    report_of,
    size_of,
    workload_of,
)
from llmcalc.answer.generation import Trials, capacity_of
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, Problems
from llmcalc.estimate import INFERENCE_PHASES, find_peak
from llmcalc.formula import is_array, larger, smaller
from llmcalc.hardware import Device
from llmcalc.memory import caches, folds
from llmcalc.memory.engines.transformers.caches import quantized
from llmcalc.memory.engines.transformers.items import (
    Moments,
    transformers_items,
)
from llmcalc.memory.engines.transformers.model import Loaded
from llmcalc.memory.requests import request_items
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Group, Inventory, Tensor, size
from llmcalc.placement import Placement
from llmcalc.report import Report
from llmcalc.scenario import Scenario

LENGTHS = {"context", "max_model_len", "prompt", "output"}
FOREIGN = ("mlx", "exl2", "exl3")
"""Methods of other engines."""

UNPACKED = ("bitsandbytes4", "hqq", "quanto")
"""Methods that make a matrix 16-bit before it is multiplied with a prompt."""


def transformers_report(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog
) -> Report:
    """What `generate` takes of each GPU for a workload.

    Examples
    --------
    Eager attention to a prompt of 8,192 tokens holds ten bytes for every score of Llama-3.1-8B's 32 heads at
    once, 20 GiB; a fused kernel holds none:

    >>> from llmcalc import vram
    >>> found = vram("llama-3.1-8b", engine="transformers", attention="eager", context=8192)
    >>> round(next(p for p in found["activations"].items if p.name == "scores").bytes / 2**30)
    20
    >>> found = vram("llama-3.1-8b", engine="transformers", context=8192)
    >>> any(part.name == "scores" for part in found["activations"].items)
    False
    """
    check(inventory, scenario)
    scenario = copy(scenario)
    _formats(scenario)
    if scenario.options.max_length and not scenario.stated & LENGTHS:
        scenario.context = smaller(scenario.context, scenario.options.max_length)
    placement = placement_of(inventory, _by_layers(scenario, device), device)
    stored = _unpacked_experts(scenario.stored(inventory), scenario)
    precision = precision_of(stored, scenario, book)
    streams = {**scenario.streams, "decoder": scenario.context}
    options = scenario.options
    if options.is_static and options.max_length:
        streams["decoder"] = larger(scenario.context, options.max_length)
    demand = scenario.demand
    outputs, beams = (demand.outputs, demand.beams) if demand is not None else (1, False)
    loaded = Loaded(
        stored, placement, precision, options, scenario.streams, _unpacked(scenario), outputs, beams
    )
    requests = -(-scenario.sequences // placement.dp)
    many = requests * outputs  # each output is a row of the batch, its prompt included
    moments = Moments(loaded, scenario.context, scenario.prompt, scenario.output, many)
    workload = Workload(streams, many, assumed=scenario.encoder_assumed)
    items = transformers_items(stored, loaded, moments, precision, workload)
    report = report_of("vram", stored, scenario, placement, items, device)
    report.header = [
        stored.title, f"{size_of(stored)} params", priced(stored, scenario, precision),
        f"transformers {options.era.name}", workload_of(scenario),
    ]  # fmt: skip
    report.placement = ranks_of(placement)
    report.floor_bytes = _floor(stored, scenario, placement, precision, requests)
    report.context_limit = stored.context
    report.warnings += scenario.notes + stored.warnings
    _echo(report, inventory, scenario, loaded)
    if device is not None and not scenario.quick and not is_array(scenario.sequences):
        trials = Trials(report, loaded, stored, precision, workload, scenario)
        report.capacity = capacity_of(report, trials)
    return report


def check(inventory: Inventory, scenario: Scenario) -> None:
    """Refuse what transformers can't do, all of it together.

    Raises
    ------
    InputError, ConfigError
        With what to do instead.
    """
    needs_layers(inventory, scenario.engine, "; llmcalc params works without")
    options, problems = scenario.options, Problems()
    with problems:
        check_formats(scenario)
    with problems:
        if "quant" in scenario.stated and _method(scenario) in FOREIGN:
            raise InputError(
                f"transformers does not run {scenario.scheme.name} weights.",
                "Use --quant nf4, int8, awq, gptq, fp8, hqq ..., or none.",
            )
    kinds = {cache.kind for group in inventory.groups for cache in group.caches}
    with problems:
        _check_length(scenario)
    if options.cache == "quantized":
        with problems:
            odd = sorted(kinds - {"full", "latent"})
            if odd:
                raise InputError(
                    f"transformers quantizes caches of full attention alone; {inventory.name} also has "
                    f"{'windows' if odd[0] in ('window', 'chunk') else odd[0] + ' caches'}.",
                    "Leave --cache out, or use --cache offloaded.",
                )
        with problems:
            _check_groups(inventory, options.group if options.backend != "fp8" else 1)
    with problems:
        _check_attention(inventory, scenario)
    problems.check()


def _check_length(scenario: Scenario) -> None:
    """A static cache must hold the whole sequence."""
    length = scenario.options.max_length
    if not scenario.stated & LENGTHS:
        return
    longest = int(scenario.context.max()) if is_array(scenario.context) else int(scenario.context)
    if length and length < longest:
        raise InputError(
            f"--max-cache-len {length:,} is shorter than the context, {longest:,} tokens: generate fails.",
            f"Use --max-cache-len {longest} or more, or leave it out.",
        )


def _check_groups(inventory: Inventory, group: int) -> None:
    """Keys and values of one token must be whole groups, else most lengths of a prompt fail."""
    parts = {size(part) for g in inventory.groups for cache in g.caches for _, part in cache.parts}
    odd = sorted(width for width in parts if width % group)
    if odd:
        most = max(n for n in (8, 16, 32, 64, 128, 256, 512, 1024, 1) if not odd[0] % n)
        raise InputError(
            f"--cache-group {group} does not divide the {odd[0]} elements that {inventory.name} keeps "
            "of a token.",
            f"Use --cache-group {most}." if most >= 8 else "Leave --cache out.",
        )


def _method(scenario: Scenario) -> str:
    return str((getattr(scenario.scheme, "entry", None) or {}).get("method", ""))


def _unpacked(scenario: Scenario) -> int:
    """Bytes of an element of the matrix that is made whole: bitsandbytes computes fp16 models in fp32. [B]"""
    method, element = _method(scenario), int(scenario.dtype.block_bytes)
    if method == "bitsandbytes4" and scenario.dtype.name == "fp16":
        return 6
    return element if method in UNPACKED else 0


def _check_attention(inventory: Inventory, scenario: Scenario) -> None:
    asked = scenario.options.attention
    if not asked or asked == "eager":
        return
    loaded = Loaded(
        inventory, Placement(1, 1, 1, inventory.layers), _any_precision(scenario), scenario.options
    )
    if asked == "sdpa" and not loaded.has_sdpa(inventory):
        raise InputError(
            f"transformers has no sdpa for {inventory.name}, whose scores are capped or have sinks.",
            "Use --attention flash or --attention eager.",
        )
    widths = sorted({layer.width for layer in loaded.groups if layer.width > 256})
    if asked == "flash" and widths:
        raise InputError(
            f"flash-attn takes heads of up to 256; those of {inventory.name} have {widths[-1]}.",
            "Use --attention sdpa.",
        )
    if asked == "flash" and scenario.dtype.name == "fp32":
        raise InputError(
            "flash-attn computes in 16 bit, not in fp32.", "Add --dtype bf16, or use --attention sdpa."
        )


def _any_precision(scenario: Scenario) -> Precision:
    return Precision(16, "", "exact", scenario.key, scenario.key, scenario.value)


def _formats(scenario: Scenario) -> None:
    """Keys and values are in the model's dtype, or quantized as `--cache` or `--kv-dtype` says."""
    options = copy(scenario.options)
    scenario.options = options
    stated = scenario.stated & {"kv_dtype", "kv_dtype_k", "kv_dtype_v"}
    if stated and scenario.key.name.startswith("quantized-"):
        options.cache, options.bits = "quantized", int(scenario.key.name[-1])
    if options.cache == "quantized":
        scenario.key = scenario.value = quantized(options)
    elif not stated and scenario.bits is None and scenario.dtype.name in ("fp16", "fp32"):
        scenario.key = scenario.value = scenario.dtype


def _by_layers(scenario: Scenario, device: Device | None) -> Scenario:
    """Several GPUs without a placement share the layers, as ``device_map="auto"`` has it."""
    count = device.count if device else None
    if count is None or {scenario.tp, scenario.pp, scenario.dp} != {None}:
        return scenario
    made = copy(scenario)
    made.pp, made.tp, made.dp = count, 1, 1
    return made


def _unpacked_experts(stored: Inventory, scenario: Scenario) -> Inventory:
    """From transformers 5 on most methods leave experts alone, because they share one tensor."""
    if not _leaves_experts(stored, scenario):
        return stored
    made = copy(stored)
    made.groups = tuple(_whole(group) for group in stored.groups)
    return made


def _leaves_experts(inventory: Inventory, scenario: Scenario) -> bool:
    entry = getattr(scenario.scheme, "entry", None) or {}
    asked = "quant" in scenario.stated and bool(entry.get("leaves_experts"))
    return asked and bool(inventory.routed_params) and bool(scenario.options.era.groups_experts)


def _whole(group: Group) -> Group:
    tensors = [
        Tensor(t.role, t.dims, t.part, t.tag) if t.role.startswith("expert_") and t.stored else t
        for t in group.tensors
    ]
    return group.with_layers(group.layers, tensors)


def _floor(
    stored: Inventory, scenario: Scenario, placement: Placement, precision: Precision, many: Any
) -> Any:
    """The architecture's minimum on the worst rank: weights, caches, states. [B]"""
    workload = Workload({**scenario.streams, "decoder": scenario.context}, many)
    items = [folds.weights_item(stored, placement, precision)]
    if scenario.demand is not None:
        items += request_items(stored, placement, precision, workload, scenario.demand)[0]
    else:
        items += [
            make(stored, placement, precision, workload) for make in (caches.kv_item, caches.state_item)
        ]
    return find_peak(items, placement.ranks, INFERENCE_PHASES).total


def _echo(report: Report, inventory: Inventory, scenario: Scenario, loaded: Loaded) -> None:
    """The engine's settings as resolved, and what the reader should know of them."""
    options = scenario.options
    keep = options.logits_of(1 << 40)
    report.scenario |= {
        "engine_version": options.era.name,
        "cache": options.cache,
        "attention": loaded.attention,
        "max_cache_len": options.max_length or None,
        "logits_to_keep": 0 if keep == 1 << 40 else keep,
        "prefill_chunk_size": options.chunk or None,
        "padding": options.padding,
    }
    if options.cache == "quantized":
        report.scenario |= {
            "cache_backend": options.backend, "cache_bits": options.bits,
            "cache_group": options.group, "cache_residual": options.residual,
        }  # fmt: skip
    notes = report.warnings
    if options.era.note:
        notes.append(options.era.note)
    if scenario.encoder_assumed:
        notes.append(
            f"The encoder is assumed to read {scenario.streams['encoder']:,} tokens, as many as the context; "
            "--encoder-tokens says otherwise."
        )
    notes += [f"{reason}." for key, reason in inventory.unproven.items() if key != "context"]
    notes[:] = [note for note in notes if not note.startswith("transformers 5 leaves experts")]
    if _leaves_experts(inventory, scenario):
        notes.append("transformers 5 leaves experts that share one tensor in 16 bit with this method.")
    if not options.attention and loaded.attention == "eager" and any(layer.heads for layer in loaded.groups):
        report.mark = "eager attention, which holds all scores of a prompt: the class has no sdpa"
        notes.append(
            "This class has no sdpa, so transformers takes eager attention, which holds all scores of a "
            "prompt; --attention flash does not."
        )
    if options.kernels and any(layer.states for layer in loaded.groups):
        notes.append(
            "Recurrent layers are counted with the kernels of mamba-ssm, causal-conv1d or "
            "flash-linear-attention; --state-kernels off is the PyTorch code that transformers falls back to."
        )
    if any(group.component not in ("text", "encoder", "mtp") for group in inventory.groups):
        notes.append("What towers for images and sound hold while they run is not counted.")
    if "mxfp4" in str(getattr(scenario.scheme, "name", "")):
        notes.append(
            "Without Triton and the kernels package transformers makes MXFP4 weights bf16, four times as "
            "large."
        )
    if loaded.beams:
        notes.append("Each beam is a row of the batch from the prompt on; caches are sorted layer by layer.")
    if scenario.options.is_static:
        notes.append(
            "generate compiles the decoding step of a static cache on GPUs; its graphs are not counted."
        )
