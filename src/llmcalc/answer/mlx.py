"""Memory of mlx-lm on Apple silicon: the peak that MLX would report, and what fits."""

from __future__ import annotations

from copy import copy

from llmcalc.answer.common import needs_layers, precision_of, priced, report_of, size_of, workload_of
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, Problems, one_of
from llmcalc.estimate import find_peak
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines.mlx.caches import KV_FORMATS, ROTATES, STEP, text_groups
from llmcalc.memory.engines.mlx.items import RUNTIME, RUNTIME_HIGH, SPREAD, Moments, mlx_items, prompt_of
from llmcalc.memory.engines.mlx.metal import ELEMENTS, KERNELS, SMALL_ELEMENTS, SMALL_KERNELS, UNDER_WAY
from llmcalc.memory.engines.mlx.model import Held, Loaded
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.planning.solve import TrialCapacity, settled
from llmcalc.report import Report
from llmcalc.scenario import Scenario

PLAIN = ("bf16", "fp16", "f16", "fp32", "none")
MOST_SEQUENCES = 1024
PHASES = ("load", "prefill", "decode")


def mlx_report(inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog) -> Report:
    """What mlx-lm takes of a Mac's memory, phase by phase.

    Examples
    --------
    Less the assumed runtime it is what ``mx.get_peak_memory()`` reports; mlx-lm's BENCHMARKS.md has 3.35 GB:

    >>> from llmcalc import vram
    >>> found = vram("qwen3-4b", quant="mlx-4bit", engine="mlx", prompt=2048, output=128)
    >>> round(float(found.total_bytes - found["runtime"].bytes) / 1e9, 2)
    3.3
    """
    check(inventory, scenario, device)
    own = scenario.scheme
    stored = text_only(as_stored(inventory, scenario))
    precision = precision_of(stored, scenario, book)
    loaded = Loaded(stored, precision, limits(device))
    moments = Moments(loaded, scenario.context, scenario.prompt, scenario.output, scenario.sequences)
    items = mlx_items(stored, loaded, moments, scenario.context, scenario.sequences)
    report = report_of("vram", stored, scenario, Placement(1, 1, 1, stored.layers), items, device)
    report.peak = find_peak(items, ["all"], PHASES)
    report.header = [
        stored.title, f"{size_of(stored)} params", priced(stored, scenario, precision), "mlx-lm",
        workload_of(scenario),
    ]  # fmt: skip
    report.warnings += scenario.notes + stored.warnings + _warnings(inventory, stored, scenario, own)
    arrays = is_array(scenario.context) or is_array(scenario.sequences)
    if device is not None and not arrays and not scenario.quick:
        _attach_capacity(report, loaded, moments, scenario, device, stored)
    return report


def check(inventory: Inventory, scenario: Scenario, device: Device | None) -> None:
    """Refuse what mlx-lm can't do, all of it together.

    Raises
    ------
    InputError, ConfigError
        With what to do instead.
    """
    needs_layers(inventory, "mlx")
    problems = Problems()
    with problems:
        if device is not None and device.vendor not in ("", "Apple"):
            raise InputError(
                f"--engine mlx runs on Apple silicon here, not on {device.name}.",
                "Name a Mac, such as --gpu m4-max-64gb, or a size: --gpu 48GiB.",
            )
    with problems:
        several = [name for name in ("tp", "pp", "dp") if getattr(scenario, name) not in (None, 1)]
        if several:
            raise InputError(
                f"--engine mlx is modelled on one Mac, without --{several[0]}.",
                f"Leave {one_of([f'--{name}' for name in several], 'and')} out.",
            )
        if device is not None and (device.count or 1) > 1:
            raise InputError(
                f"--engine mlx is modelled on one Mac, not on {device.count}.", "Name one: --gpu m4-max-64gb."
            )
    with problems:
        _check_scheme(inventory, scenario)
    with problems:
        _check_cache(inventory, scenario)
    with problems:
        if any(cache.stream == "encoder" for group in inventory.groups for cache in group.caches):
            raise InputError(
                f"mlx-lm runs decoders; {inventory.name} has an encoder.", "Leave --engine mlx out."
            )
    problems.check()


def _check_scheme(inventory: Inventory, scenario: Scenario) -> None:
    scheme = scenario.scheme
    asked = "quant" in scenario.stated and scheme is not None
    if inventory.source == "gguf" and not asked:
        raise InputError(
            f"mlx-lm does not read {inventory.name}, a GGUF file.",
            "Name the model with --quant mlx-4bit, or use --engine llama.cpp.",
        )
    if asked and method_of(scheme) != "mlx" and scheme.name not in PLAIN:
        raise InputError(
            f"mlx-lm does not run {scheme.name} weights.",
            "Use --quant mlx-4bit, mlx-6bit, mlx-8bit, mlx-4bit-g32, mlx-mxfp4 ..., or none for 16 bit.",
        )


def _check_cache(inventory: Inventory, scenario: Scenario) -> None:
    kept = {scenario.key.name, scenario.value.name}
    wrong = sorted(kept - set(KV_FORMATS))
    if wrong:
        raise InputError(f"mlx-lm keeps no cache in {wrong[0]}.", f"Use --kv-dtype {one_of(KV_FORMATS)}.")
    if scenario.key.elements == 1 and scenario.value.elements == 1:
        return
    if len(kept) > 1:
        raise InputError(
            "mlx-lm quantizes keys and values alike.", f"Use one: --kv-dtype {scenario.key.name}."
        )
    kinds = {cache.kind for group in text_groups(inventory) for cache in group.caches}
    if "window" in kinds and inventory.family in ROTATES:
        raise InputError(
            f"mlx-lm does not quantize rotating caches, which {inventory.name} has for its windows.",
            "Leave --kv-dtype out.",
        )
    if kinds & {"latent", "indexer", "compressed", "chunk"}:
        raise InputError(f"mlx-lm does not quantize the caches of {inventory.name}.", "Leave --kv-dtype out.")


def method_of(scheme: object) -> str:
    """How a scheme stores matrices; empty for GGUF files."""
    entry = getattr(scheme, "entry", None) or {}
    return str(entry.get("method", ""))


def as_stored(inventory: Inventory, scenario: Scenario) -> Inventory:
    """Weights as asked; of a checkpoint in a format that mlx-lm converts, in 16 bit."""
    own = scenario.scheme
    if own is None or "quant" in scenario.stated or method_of(own) == "mlx" or "mxfp4" in own.name:
        return scenario.stored(inventory)
    from llmcalc.precision.scheme import PLAIN as UNQUANTIZED

    scenario.scheme = None
    made: Inventory = UNQUANTIZED.apply(inventory, scenario.dtype.name)
    return made


def text_only(inventory: Inventory) -> Inventory:
    """The model without towers, which mlx-lm does not load."""
    made = copy(inventory)
    made.groups = tuple(text_groups(inventory))
    if len(made.groups) < len(inventory.groups):
        made.published = None
    return made


def limits(device: Device | None) -> tuple[int, int]:
    """Elements and kernels of one command buffer on a chip: Max and Ultra take more. [-]"""
    words = device.name.split() if device is not None and device.vendor == "Apple" else ["Max"]
    if "Max" in words or "Ultra" in words:
        return ELEMENTS, KERNELS
    return SMALL_ELEMENTS, SMALL_KERNELS


def _warnings(inventory: Inventory, stored: Inventory, scenario: Scenario, own: object) -> list[str]:
    found = []
    if len(stored.groups) < len(inventory.groups):
        found.append("mlx-lm loads the language model alone; mlx-vlm would load the towers too.")
    if own is not scenario.scheme:
        found.append(
            f"mlx-lm does not run {getattr(own, 'name', 'this')} weights as they are; 16 bit is counted. "
            "--quant mlx-4bit is smaller."
        )
    if scenario.key.elements > 1:
        found.append(
            "Attention to a quantized cache runs unfused: a prompt's scores of all heads are held, which "
            "may take more than the cache saves."
        )
    if inventory.unproven:
        found += [f"{reason}." for key, reason in inventory.unproven.items() if key != "context"]
    return found


def _attach_capacity(
    report: Report, loaded: Loaded, moments: Moments, scenario: Scenario, device: Device, inventory: Inventory
) -> None:  # fmt: skip
    """The longest context and the most sequences that fit, by search."""
    weights = int(report["weights"].amounts[0])
    context, many = int(scenario.context), int(scenario.sequences)

    tried: dict[tuple[int, int, bool], Held] = {}
    if scenario.prompt in (None, prompt_of(context, None, scenario.output)):
        _, expected, high = moments.rows[0]
        tried = {(context, many, False): expected, (context, many, True): high}

    def room(tokens: int, sequences: int, safe: bool, exact: bool) -> int:
        """Bytes left; quickly, without what passes hold beside caches and states. [B]"""
        usable = device.usable_low if safe else device.usable_bytes
        left = usable - weights - (RUNTIME_HIGH if safe else RUNTIME)
        if not exact:
            return left - loaded.kept(tokens, sequences)
        key = tokens, sequences, safe
        if key not in tried:
            read, away = prompt_of(tokens, None, scenario.output), UNDER_WAY + (SPREAD if safe else 0)
            tried[key] = loaded.held(tokens, read, sequences, away)
        held = tried[key]
        return left - held.kv - held.state - max(held.prefill, held.decode)

    limit = None if scenario.allow_overlong else inventory.context

    def budget() -> int:
        beyond = max(int(report[name].amounts[0]) for name in ("activations", "decode_buffers"))
        return device.usable_bytes - weights - RUNTIME - beyond

    def grown() -> int:
        return (loaded.cached(context + STEP, 1, False) - loaded.cached(context, 1, False)) // STEP

    def most() -> int:
        known = {many: room(context, many, False, True)}
        return settled(lambda n, exact: room(context, n, False, exact), MOST_SEQUENCES, known=known)

    report.capacity = TrialCapacity(
        room, many, limit, STEP, None, context, kv_budget_bytes=budget, kv_bytes_per_token=grown,
        max_concurrency=most,
    )  # fmt: skip
    report.context_limit = inventory.context
