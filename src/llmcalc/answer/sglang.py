"""Memory of SGLang: weights and pools in a fixed share of what is free, all else in the rest."""

from __future__ import annotations

from copy import copy

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
from llmcalc.estimate import Item
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines.sglang import KV_FORMATS
from llmcalc.memory.engines.sglang.items import Server
from llmcalc.memory.engines.sglang.pools import PACKED_ROW, SPARSE_ROW, Pool
from llmcalc.memory.engines.vllm.packed import is_packed
from llmcalc.model.inventory import Inventory
from llmcalc.planning.pools import LONGEST, SlotCapacity
from llmcalc.planning.solve import most_that_fits
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import format_bytes

FOREIGN = ("exl2", "exl3", "eetq", "quip", "mlx")
"""Methods of other engines."""

LEAST, MOST = 2048, 4096
"""Running requests where nobody limits them: 512 for each context that the pool holds, within these. [-]"""


def sglang_report(inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog) -> Report:
    """What SGLang takes of each GPU for a workload.

    Examples
    --------
    Llama-3-8B on an H200 of 139.2 GiB free: 871,371 tokens in the log of issue 6753, 14.98 GB of weights.

    >>> from llmcalc import vram
    >>> found = vram("llama-3-8b", engine="sglang", gpu="139.2GiB", mem_fraction_static=0.8717961)
    >>> abs(found.capacity.kv_tokens / 871_371 - 1) < 0.001
    True
    """
    check_server(
        inventory, scenario, "SGLang", KV_FORMATS, FOREIGN, "fp8, awq, gptq, w4a16, w8a8, nvfp4, mxfp4"
    )
    scenario, halved = auto_dtype(scenario, "SGLang")
    placement = placement_of(inventory, scenario, device)
    options = copy(scenario.options)
    if not options.shares_batch:
        options.ranks = placement.tp
    stored = scenario.stored(inventory)
    drafts = any(group.component == "mtp" for group in stored.groups)
    if options.drafts and options.era.counts_draft and drafts:
        stored = copy(stored)
        stored.loaded = (*stored.loaded, "mtp")
    sparse = settle_cache(scenario, keeps_index(stored))
    precision = precision_of(stored, scenario, book)
    server = Server(stored, placement, precision, options, device, sparse)
    items = server.items(scenario.context, -(-scenario.sequences // placement.dp))
    limited = _limited(device, server, items)
    report = report_of("vram", stored, scenario, placement, items, limited)
    report.header = [
        stored.title, f"{size_of(stored)} params", priced(stored, scenario, precision),
        f"SGLang {options.era.name}", workload_of(scenario),
    ]  # fmt: skip
    report.placement = ranks_of(placement)
    report.floor_bytes = floor_of(stored, scenario, placement, precision)
    report.context_limit = stored.context
    report.warnings += scenario.notes + stored.warnings + halved
    _echo(report, server, sparse)
    if device is not None:
        _check_budget(report, server, items, device)
        if is_array(scenario.context) or is_array(scenario.sequences):
            _tell_of_arrays(report, server)
        else:
            _check_pools(report, server, scenario)
            _attach_capacity(report, server, scenario, items, device)
    return report


def _limited(device: Device | None, server: Server, items: list[Item]) -> Device | None:
    """The device as SGLang lets itself use it: its share for weights and pools, and what lies outside."""
    if device is None:
        return None
    made = copy(device)
    extra = max(server.outside(items, stage) for stage in range(server.placement.pp))
    for name in ("usable_low", "usable_bytes", "usable_high"):
        free = getattr(device, name)
        setattr(made, name, min(server.static(free) + extra, free))
    above, below = server.plan.fraction
    made.basis = f"{device.basis}; {above / below:.4g} of what is free for weights and pools, and the rest"
    return made


def _tell_of_arrays(report: Report, server: Server) -> None:
    """Pools of a size set by hand are held against one workload at a time."""
    if server.options.tokens is not None or any(pool.state and pool.is_fixed for pool in server.pools):
        report.warnings.append(
            "Pools whose size is set by hand are not held against several workloads: ask for one at a time."
        )


def _check_pools(report: Report, server: Server, scenario: Scenario) -> None:
    """A pool set by hand may be too small whatever the GPU has."""
    held = -(-int(scenario.sequences) // server.placement.dp)
    short = server.short(int(scenario.context), held)
    if short and report.device is not None:
        for name in ("usable_low", "usable_bytes", "usable_high"):
            least = min(getattr(report.device, name), int(report.range_bytes[0]) - short)
            setattr(report.device, name, max(least, 0))
        report.warnings.append(
            f"The pools as set by hand lack {format_bytes(short, 'gib')} for this; raise --max-total-tokens, "
            "--max-mamba-cache-size or --max-running-requests."
        )


def _beside(server: Server, items: list[Item], stage: int) -> tuple[int, int]:
    """How far what lies outside the share may pull the total down and up. [B]"""
    middle = server.outside(items, stage)
    return middle - server.outside(items, stage, "low"), server.outside(items, stage, "high") - middle


def _check_budget(report: Report, server: Server, items: list[Item], device: Device) -> None:
    """Say how much is missing where nothing is left for pools, or where the rest does not hold the rest."""
    left = min(server.budgets(items, device.usable_bytes))
    if left <= 0:
        report.warnings.append(
            f"SGLang would not start: weights leave no room for a cache in its share; "
            f"{format_bytes(-left, 'gib')} are missing. Use more GPUs, a smaller --quant or a higher "
            "--mem-fraction-static."
        )
        return
    extra = max(server.outside(items, stage) for stage in range(server.placement.pp))
    room = device.usable_bytes - server.static(device.usable_bytes)
    if extra > room:
        report.warnings.append(
            f"Activations and graphs may run out of memory: {format_bytes(room, 'gib')} lie outside SGLang's "
            f"share and {format_bytes(extra, 'gib')} are expected there. Lower --mem-fraction-static, "
            "--chunked-prefill-size or --cuda-graph-max-bs."
        )
        return
    report.beside = _beside(server, items, 0)


def _echo(report: Report, server: Server, sparse: bool) -> None:
    """The engine's settings as resolved, and what the reader should know of them."""
    options, plan, scenario = server.options, server.plan, report.scenario
    worst = server.pools[0]
    above, below = plan.fraction
    report.scenario |= {
        "engine_version": options.era.name,
        "mem_fraction_static": above / below if server.device is not None or options.fraction else None,
        "chunked_prefill_size": plan.chunk,
        "cuda_graph_max_bs": 0 if options.eager else plan.graphs,
        "max_running_requests": options.requests,
        "page_size": worst.page,
        "swa_full_tokens_ratio": worst.ratio[0] / worst.ratio[1] if worst.window else None,
        "mamba_full_memory_ratio": worst.state_ratio[0] / worst.state_ratio[1] if worst.state else None,
        "disable_radix_cache": not options.prefix,
        "disable_cuda_graph": options.eager,
        "enable_dp_attention": options.shares_batch,
        "speculative_num_draft_tokens": options.drafts,
        "max_total_tokens": options.tokens,
    }
    if options.shares_batch:
        scenario["attention_tp"] = server.placement.tp
    if options.era.note:
        report.warnings.append(options.era.note)
    packed = is_packed(server.inventory)
    if sparse and scenario["kv_dtype_k"] == "fp8":
        report.warnings.append(
            f"Sparse latent attention is kept in fp8 rows of {PACKED_ROW if packed else SPARSE_ROW} bytes by "
            "default; --kv-dtype bf16 does not."
        )
    if packed:
        report.warnings.append(
            "The pools of compressed caches follow SGLang's sources and no log: half to one and a half times "
            "what is expected. Releases size the tokens that wait for their entry in several ways."
        )
    windows = {c.kind for g in server.inventory.groups for c in g.caches} & {"window", "chunk"}
    if windows and not worst.window:
        report.warnings.append("This release keeps the windows of this model whole, like full attention.")
    if options.drafts and not any(g.component == "mtp" for g in server.inventory.groups):
        report.warnings.append("The draft model's own weights and caches are not counted.")
    if server.is_bare:
        report.warnings.append(
            "A bare size counts as what is free when SGLang begins to load; name the card to have context "
            "and NCCL taken off."
        )


def _requests(server: Server, tokens: int, slots: int, limit: int | None) -> int:
    """Requests that may run at once on one replica. [-]"""
    asked = server.options.requests
    found = max(min(tokens * 512 // (limit or tokens or 1), MOST), LEAST)
    if asked is not None:
        found = max(asked // (server.options.replicas if server.options.shares_batch else 1), 1)
    worst = server.pools[0]
    if worst.cell[0]:
        found = min(found, tokens // 2)
    return min(found, slots // worst.slots_each) if any(p.state for p in server.pools) else found


def _attach_capacity(
    report: Report, server: Server, scenario: Scenario, items: list[Item], device: Device
) -> None:
    """Tokens, windows and states that the pools hold, and the longest context of so many sequences."""
    context, placement, pools = int(scenario.context), server.placement, server.pools
    held = -(-int(scenario.sequences) // placement.dp)
    budgets = server.budgets(items, device.usable_bytes)
    safe = server.budgets(items, device.usable_low, "high")
    surely = [budget * 100 // server.spread[1] if budget > 0 else budget for budget in safe]
    limit = LONGEST if scenario.allow_overlong or not report.context_limit else report.context_limit
    own = [(pool, budget) for pool, budget in zip(pools, budgets, strict=True) if pool.cell[0] or pool.state]
    keeping = [(pool, budget) for pool, budget in own if pool.cell[0]]
    tokens = min((pool.tokens(budget) for pool, budget in keeping), default=0)
    slots = min((pool.slots(budget) for pool, budget in own if pool.state), default=0)
    requests = _requests(server, tokens, slots, report.context_limit)

    def reach(room: list[int], many: int, most: int) -> int | None:
        """The longest context of so many sequences; None where any length fits."""
        pairs = [(p, b) for p, b in zip(pools, room, strict=True) if p.cell[0] or p.state]
        if any(p.state and many * p.slots_each > p.slots(b) for p, b in pairs):
            return 0
        counted = [(pool, pool.tokens(b)) for pool, b in pairs if pool.cell[0]]
        if not counted:
            return None if most == LONGEST else most
        return most_that_fits(lambda length: _left(counted, length, many, server.plan.chunk), most)

    counted = [(pool, pool.tokens(budget)) for pool, budget in keeping]
    most = requests
    if counted:
        most = most_that_fits(lambda many: _left(counted, context, many, server.plan.chunk), max(requests, 1))
    first = next((pool for pool, _ in keeping if pool.window and pool.full), None)
    above, below = max((pool.cell for pool in pools), key=lambda cell: cell[0] / cell[1])
    plain = {
        "kv_budget_bytes": min(budgets),
        "kv_tokens": tokens,
        "kv_bytes_per_token": -(-above // below),
        "max_concurrency": min(most, requests) * placement.dp,
        "max_context": reach(budgets, held, limit),
        "safe_context": reach(surely, held, limit),
    }
    if plain["safe_context"] is not None and plain["max_context"] is not None:  # states take whole slots
        plain["safe_context"] = min(plain["safe_context"], plain["max_context"])
    report.capacity = SlotCapacity(
        plain,
        {
            "kv_budget_range_bytes": [
                min(safe), min(server.budgets(items, device.usable_high, "low")),
            ],
            "pool_tokens": tokens,
            "kv_blocks": tokens // pools[0].page,
            "concurrency": round(min(tokens / int(pools[0].aligned(context)), requests) * placement.dp, 2)
            if counted else float(requests * placement.dp),
            "longest_request": reach(budgets, 1, LONGEST),
            "full_tokens": tokens if first else None,
            "window_tokens": tokens * first.ratio[0] // first.ratio[1] // first.page * first.page
            if first else None,
            "state_slots": slots if any(pool.state for pool in pools) else None,
            "running_requests": requests * placement.dp,
        },
    )  # fmt: skip


def _left(counted: list[tuple[Pool, int]], length: int, many: int, chunk: int) -> int:
    """Tokens of the pools that so many sequences of a length leave, on the rank with least. [tokens]"""
    return min(held - int(pool.tokens_for(length, many, chunk)) for pool, held in counted)
