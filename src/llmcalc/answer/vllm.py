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
from llmcalc.catalog import Catalog
from llmcalc.demand import Demand
from llmcalc.errors import InputError, one_of
from llmcalc.estimate import Item
from llmcalc.formula import Quantity, is_array, smaller
from llmcalc.hardware import Device
from llmcalc.memory.engines.vllm import KV_FORMATS
from llmcalc.memory.engines.vllm.items import Server
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.planning.pools import LONGEST, PoolCapacity
from llmcalc.planning.solve import most_that_fits
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import format_bytes, parse_decimal


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
    scenario, lowered = _beside_reserve(scenario, device)
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
        stored, placement, precision, scenario.options, device, longest, scenario.streams, sparse, beside
    )  # fmt: skip
    held = -(-scenario.sequences // placement.dp)
    items = server.items(scenario.context, held, scenario.demand)
    cases = _cases(server, items, scenario.demand, held)
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
    if device is not None:
        if limited is not None and scenario.options.pool is None:
            report.margins = _margins(limited, server, items, requested)
        _check_budget(report, server, items, requested)
        arrays = is_array(scenario.context) or is_array(scenario.sequences)
        if not arrays and not scenario.quick:
            _attach_capacity(report, server, scenario, requested, items)
        _tell_free(report, device, scenario, requested)
    return report


def _margins(device: Device, server: Server, items: list[Item], requested: int) -> tuple[Quantity, Quantity]:
    """What pages leave of the budget, at the unfavourable and the favourable end of GPU and budget. [B]"""
    stages = range(server.placement.pp)
    pages = [
        sum(item.amounts[stage] for item in items if item.name in ("kv_cache", "state")) for stage in stages
    ]
    found = []
    for end, off in (
        ("low", device.usable_low - device.usable_bytes), ("high", device.usable_high - device.usable_bytes)
    ):  # fmt: skip
        left = [
            budget + off - held
            for budget, held in zip(server.budgets(items, requested, end), pages, strict=True)
        ]
        least = left[0]
        for other in left[1:]:
            least = smaller(least, other)
        found.append(least)
    return found[0], found[1]


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


def _beside_reserve(scenario: Scenario, device: Device | None) -> tuple[Scenario, list[str]]:
    """A default share that others' memory leaves, for vLLM does not start below what it asks for."""
    options = scenario.options
    if device is None or not scenario.reserve or options.utilisation or options.pool is not None:
        return scenario, []
    total = device.usable_bytes + scenario.reserve
    if _share(total, options) <= device.usable_bytes:
        return scenario, []
    made = copy(scenario)
    made.options = copy(options)
    made.options.utilisation = (device.usable_bytes * 100 // total, 100)
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
    extra = max(server.outside(items, stage) for stage in range(server.placement.pp))
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


def _tell_free(report: Report, device: Device, scenario: Scenario, requested: int) -> None:
    """Refused at the start: less is free than vLLM asks for."""
    if requested > device.usable_bytes:
        report.refusal = f"{format_bytes(requested - device.usable_bytes, 'gib')} more asked for than is free"
        report.warnings.append(
            f"vLLM would not start: it asks for {format_bytes(requested, 'gib')} and "
            f"{format_bytes(device.usable_bytes, 'gib')} are free beside the reserve; lower "
            "--gpu-memory-utilization."
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
        report.warnings.append(
            "vLLM keeps sparse latent attention in fp8 rows of 656 bytes by default; --kv-dtype bf16 "
            "does not."
        )
    unknown = scenario.beside is None or scenario.beside.draft is None
    if options.drafts and unknown and not any(g.component == "mtp" for g in server.inventory.groups):
        report.warnings.append(
            "The draft model's own weights and caches are not counted; name it: --draft MODEL."
        )


def _attach_capacity(
    report: Report, server: Server, scenario: Scenario, requested: int, items: list[Item]
) -> None:  # fmt: skip
    """The three capacities of a pool, and the longest context of so many sequences."""
    context, placement = int(scenario.context), server.placement
    held = -(-int(scenario.sequences) // placement.dp)
    budgets = server.budgets(items, requested)
    safe = server.budgets(items, requested, "low")
    device = report.device  # the verdict's unfavourable end has the device's own range too
    short = device.usable_bytes - device.usable_low if device is not None else 0
    surely = [budget - short for budget in safe]
    pairs = [(p, b) for p, b in zip(server.pools, budgets, strict=True) if p.groups]
    limit = LONGEST if scenario.allow_overlong or not report.context_limit else report.context_limit

    grows = any(pool.grows for pool, _ in pairs)

    def reach(room: list[int], many: int, most: int) -> int | None:
        def left(tokens: int) -> int:
            return min(
                pool.blocks(budget) - many * int(pool.blocks_of(tokens))
                for pool, budget in zip(server.pools, room, strict=True)
                if pool.groups
            )

        if grows or (pairs and left(1) < 0):
            return most_that_fits(left, most)
        return None if most == LONGEST else most  # states alone: any length

    blocks = min((pool.blocks(budget) for pool, budget in pairs), default=0)
    demand = scenario.demand
    worst = max(server.pools, key=lambda pool: int(pool.need(context)))
    each = max((int(pool.blocks_of(context)) for pool, _ in pairs), default=0)
    if scenario.options.era.counts_pages:
        concurrency = min((p.blocks(b) / int(p.blocks_of(context)) for p, b in pairs), default=0.0)
    else:
        concurrency = min((p.tokens(p.blocks(b), context) / context for p, b in pairs), default=0.0)
    tokens = min((p.tokens(p.blocks(b), context) for p, b in pairs), default=0)
    plain = {
        "kv_budget_bytes": min(budgets),
        "kv_tokens": tokens,
        "kv_bytes_per_token": int(worst.bytes_per_token(context)),
        "max_concurrency": blocks // each * placement.dp if each else None,
        "max_context": reach(budgets, held, limit),
        "safe_context": reach(surely, held, limit),
    }
    own = {
        "kv_budget_range_bytes": [min(safe), min(server.budgets(items, requested, "high"))],
        "pool_tokens": tokens,
        "kv_blocks": blocks,
        "concurrency": round(concurrency * placement.dp, 2),
        "longest_request": reach(budgets, 1, LONGEST),
    }
    report.capacity = PoolCapacity(plain, own)
    if demand is not None and pairs:
        from llmcalc.answer.requests import settle_capacity
        from llmcalc.memory.engines.vllm.requests import Blocks

        charges = [Blocks(pool) for pool, _ in pairs]
        room = [p.blocks(b) * p.block_bytes for p, b in pairs]
        careful = [p.blocks(b) * p.block_bytes for p, b in zip(server.pools, safe, strict=True) if p.groups]
        settle_capacity(report.capacity, demand, held, charges, (room, careful), limit)
        report.capacity.max_concurrency = (report.capacity.max_concurrency or 0) * placement.dp
