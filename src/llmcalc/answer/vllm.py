"""Memory of vLLM: what it loads, profiles and captures, and the pool of pages that is left."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from llmcalc.answer.beside_vllm import loaded_beside, tell_beside
from llmcalc.answer.common import (
    placement_of,
    precision_of,
    priced,
    ranks_of,
    report_of,
    size_of,
    workload_of,
)
from llmcalc.answer.servers import auto_dtype, check_server, floor_of, keeps_index, settle_cache
from llmcalc.answer.vllm_room import Room, attach_capacity
from llmcalc.catalog import Catalog
from llmcalc.demand import Demand
from llmcalc.errors import InputError, one_of
from llmcalc.estimate import Item
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines.vllm import KV_FORMATS
from llmcalc.memory.engines.vllm.items import Server
from llmcalc.memory.engines.vllm.packed import ROW, is_packed
from llmcalc.memory.engines.vllm.pages import SPARSE_ROW
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import format_bytes, gib, parse_decimal


def vllm_report(inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog) -> Report:
    """What vLLM takes of each GPU for a workload.

    Examples
    --------
    gpt-oss-20b at 131,072 tokens takes 3.097 GiB of pages with 4,096 tokens in flight:

    >>> from llmcalc import vram
    >>> found = vram("gpt-oss-20b", engine="vllm", context=131_072)
    >>> round(found["kv_cache"].bytes / 2**30, 3)
    3.097
    """
    check(inventory, scenario)
    scenario, halved = auto_dtype(scenario, "vLLM")
    placement = placement_of(inventory, scenario, device)
    _check_ranks(scenario, placement)
    stored = scenario.stored(inventory)
    predicts = scenario.beside is None or scenario.beside.draft is None or scenario.beside.word == "mtp"
    if scenario.options.drafts and predicts and any(g.component == "mtp" for g in stored.groups):
        stored = copy(stored)
        stored.loaded = (*stored.loaded, "mtp")
    sparse = settle_cache(scenario, keeps_index(stored))
    precision = precision_of(stored, scenario, book)
    beside = loaded_beside(stored, precision, scenario, placement, book)
    longest = int(scenario.context.max()) if is_array(scenario.context) else int(scenario.context)
    server = Server(
        stored, placement, precision, scenario.options, device, longest, scenario.streams, sparse, beside,
        scenario.encoder_assumed,
    )  # fmt: skip
    held = -(-scenario.sequences // placement.dp)
    items = server.items(scenario.context, held, scenario.demand)
    cases = _cases(server, items, scenario.demand, held)
    scenario, lowered = _beside_reserve(scenario, device, server.most_outside(items))
    limited, requested = _limited(device, scenario, server, items)
    report = report_of("vram", stored, scenario, placement, items, limited)
    report.header = [
        stored.title, f"{size_of(stored)} params", priced(stored, scenario, precision),
        f"vLLM {scenario.options.era.name}", workload_of(scenario),
    ]  # fmt: skip
    report.placement = ranks_of(placement)
    report.counted_bytes = _counted(server, items, requested)
    report.floor_bytes = floor_of(stored, scenario, placement, precision, beside)
    report.context_limit = stored.context
    report.warnings += scenario.notes + stored.warnings + halved + lowered
    _echo(report, scenario, server)
    tell_beside(report, scenario, beside)
    if cases is not None:
        cases(report)
    if device is not None and limited is not None:
        room = Room(server, items, device, limited, requested)
        report.margins = room.margins()
        report.missing_bytes, report.most_pool = room.missing, room.most_pool
        _check_budget(report, server, items, requested)
        _check_start(report, room, scenario)
        arrays = is_array(scenario.context) or is_array(scenario.sequences)
        if not arrays and not scenario.quick:
            attach_capacity(report, room, scenario)
    return report


def _counted(server: Server, items: list[Item], requested: int) -> int | None:
    """What the fullest rank counts against its share, pages included, at the unfavourable end. [B]"""
    pages = [item for item in items if item.name in ("kv_cache", "state")]
    if any(is_array(item.bytes) for item in pages):
        return None
    stages = range(server.placement.pp)
    spread = [0 for _ in stages]
    if server.options.pool is None:
        ends = (server.budgets(items, requested, end) for end in ("amounts", "low"))
        spread = [expected - low for expected, low in zip(*ends, strict=True)]
    return max(
        server.counted(items, n) + spread[n] + sum(int(item.high[n]) for item in pages) for n in stages
    )


def _cases(
    server: Server, items: list[Item], demand: Demand | None, held: Any
) -> Callable[[Report], None] | None:
    """What requests need in each case, and how a report is told."""
    if demand is None:
        return None
    from llmcalc.answer.requests import attach_requests, cases_of
    from llmcalc.memory.engines.vllm.requests import caches_prefixes

    needs = server.needs(demand, held)
    cases = cases_of(items, needs, server.placement.ranks)
    caching = all(caches_prefixes(pool) for pool in server.pools if pool.groups)

    def tell(report: Report) -> None:
        attach_requests(report, demand, cases, needs, report.scenario["sequences"])
        if (demand.prefix or demand.outputs > 1) and not caching and server.options.era.is_v1:
            report.warnings.append(
                "vLLM shares no prompt of a model with recurrent states, nor their states, without "
                "--enable-prefix-caching."
            )

    return tell


def check(inventory: Inventory, scenario: Scenario) -> None:
    """Refuse what vLLM can't do, all of it together.

    Raises
    ------
    InputError, ConfigError
        With what to do instead.
    """
    check_server(
        inventory, scenario, "vLLM", KV_FORMATS, FOREIGN, "fp8, awq, gptq, w4a16, w8a8, nvfp4, mxfp4, nf4 ..."
    )


FOREIGN = ("exl2", "exl3", "eetq", "quip")
"""Methods of other engines."""


def _check_ranks(scenario: Scenario, placement: Placement) -> None:
    dcp = scenario.options.dcp
    if dcp > 1 and placement.tp % dcp:
        raise InputError(
            f"--dcp {dcp} does not divide the {placement.tp} tensor ranks that share a cache's tokens.",
            f"Use --dcp {one_of([str(n) for n in range(1, placement.tp + 1) if not placement.tp % n][:8])}.",
        )


def _beside_reserve(
    scenario: Scenario, device: Device | None, outside: int
) -> tuple[Scenario, list[str]]:  # fmt: skip
    """A default share that others' memory leaves, beside what vLLM takes and does not count."""
    options = scenario.options
    if device is None or not scenario.reserve or options.utilisation or options.pool is not None:
        return scenario, []
    total = device.usable_bytes + scenario.reserve
    if _share(total, options) + outside <= device.usable_bytes:
        return scenario, []
    made = copy(scenario)
    made.options = copy(options)
    made.options.utilisation = (max((device.usable_bytes - outside) * 100 // total, 1), 100)
    share = made.options.utilisation[0] / 100
    return made, [f"--gpu-memory-utilization is taken to be {share:g}: the reserve leaves no more."]


def _share(total: int, options: Any) -> int:
    """The share that vLLM takes of a total. [B]"""
    share = options.utilisation or parse_decimal(str(options.era.utilisation)) or (1, 1)
    return int(-(-total * share[0] // share[1]))


def _requested(scenario: Scenario, server: Server, items: list[Item], total: int) -> int:
    """What vLLM asks for: its share of the memory that the runtime reports, or what a set pool needs. [B]"""
    options = scenario.options
    if options.pool is not None:
        return int(options.pool) + max(server.counted(items, stage) for stage in range(server.placement.pp))
    return _share(total, options)


def _limited(
    device: Device | None, scenario: Scenario, server: Server, items: list[Item]
) -> tuple[Device | None, int]:
    """The device as vLLM lets itself use it, and what it asks for. [B]"""
    if device is None:
        return None, 0
    made = copy(device)
    extra = server.most_outside(items)
    for name in ("usable_low", "usable_bytes", "usable_high"):
        free = getattr(device, name)
        asked = _requested(scenario, server, items, free + scenario.reserve)
        setattr(made, name, min(asked + extra, free))
    total = device.usable_bytes + scenario.reserve
    requested = _requested(scenario, server, items, total)
    made.basis = f"{device.basis}; {requested / max(total, 1):.4g} of it, and what vLLM does not count"
    return made, requested


def _check_budget(report: Report, server: Server, items: list[Item], requested: int) -> None:
    """Say how much is missing where nothing is left for pages."""
    left = min(server.budgets(items, requested))
    if left <= 0:
        report.warnings.append(
            f"vLLM would not start: weights and profiled peak leave no room for a cache; "
            f"{format_bytes(-left, 'gib')} are missing before its first page. Use more GPUs, a smaller "
            "--quant, a higher --gpu-memory-utilization or fewer --max-num-seqs."
        )


def _check_start(report: Report, room: Room, scenario: Scenario) -> None:
    """Say where vLLM does not start: less is free than it asks for, or a pool set by hand has no room."""
    pool = scenario.options.pool
    if room.missing and pool is not None:
        short = format_bytes(room.missing, "gib")
        if room.never_starts:
            report.refusal = f"{short} more set aside than is free"
        found = f"Weights, peak and the pool of --kv-cache-memory take {short} more than is free"
        words = "would not start" if room.never_starts else "may not start"
        if room.most_pool:
            remedy = f"lower --kv-cache-memory to {gib(room.most_pool)} or less"
        else:
            remedy = "no pool has room; use more GPUs or a smaller --quant"
        report.warnings.append(f"vLLM {words}: {found[0].lower()}{found[1:]}; {remedy}.")
    elif room.missing:
        report.refusal = f"{format_bytes(room.missing, 'gib')} more asked for than is free"
        report.warnings.append(
            f"vLLM would not start: it asks for {format_bytes(room.requested, 'gib')} and "
            f"{format_bytes(room.device.usable_bytes, 'gib')} are free beside the reserve; lower "
            "--gpu-memory-utilization."
        )
    elif room.squeezed > 0 and min(room.budgets()) > 0:
        share = scenario.options.utilisation or parse_decimal(str(scenario.options.era.utilisation)) or (1, 1)
        total = room.device.usable_bytes + scenario.reserve
        less = max((share[0] * 100 // share[1]) - -(-room.squeezed * 100 // total), 1) / 100
        report.warnings.append(
            f"vLLM takes its share at the start and {format_bytes(room.squeezed, 'gib')} more than is free "
            f"with what it does not count; --gpu-memory-utilization {less:g} leaves room for that."
        )


def _echo(report: Report, scenario: Scenario, server: Server) -> None:
    """The engine's settings as resolved, and what the reader should know of them."""
    options, era = scenario.options, scenario.options.era
    share = options.utilisation
    report.scenario |= {
        "engine_version": era.name,
        "gpu_memory_utilization": share[0] / share[1] if share else era.utilisation,
        "max_num_seqs": server.batch.seqs,
        "max_num_batched_tokens": server.batch.tokens,
        "enforce_eager": options.eager,
        "block_size": max(pool.block for pool in server.pools),
        "disable_hybrid_kv_cache_manager": not server.settings.hybrid,
        "enable_prefix_caching": options.prefix,
        "num_speculative_tokens": options.drafts,
        "in_flight_tokens": server.settings.in_flight,
        "dcp": options.dcp,
        "kv_cache_memory": options.pool,
    }
    if era.note:
        report.warnings.append(era.note)
    if str((getattr(scenario.scheme, "entry", None) or {}).get("method", "")).startswith("mlx"):
        report.warnings.append(
            "MLX weights run in vllm-metal, vLLM's plugin for Apple silicon; its budget is not that of CUDA."
        )
    if server.settings.sparse and not scenario.stated & {"kv_dtype", "kv_dtype_k", "kv_dtype_v"}:
        row = ROW if is_packed(server.inventory) else SPARSE_ROW["fp8"]
        report.warnings.append(
            f"vLLM keeps sparse latent attention in fp8 rows of {row} bytes by default; --kv-dtype bf16 "
            "does not."
        )
    unknown = scenario.beside is None or scenario.beside.draft is None
    if options.drafts and unknown and not any(g.component == "mtp" for g in server.inventory.groups):
        report.warnings.append(
            "The draft model's own weights and caches are not counted; name it: --draft MODEL."
        )
