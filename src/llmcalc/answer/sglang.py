"""Memory of SGLang: weights and pools in a fixed share of what is free, all else in the rest."""

from __future__ import annotations

from copy import copy

from llmcalc.answer.beside_pool import loaded_beside, tell_beside
from llmcalc.answer.common import placement_of, precision_of
from llmcalc.answer.servers import (
    auto_dtype,
    check_server,
    keeps_index,
    server_report,
    settle_cache,
    tell_requests,
)
from llmcalc.answer.sglang_capacity import attach_capacity
from llmcalc.catalog import Catalog
from llmcalc.estimate import Item
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.engines.sglang import KV_FORMATS
from llmcalc.memory.engines.sglang.items import Server
from llmcalc.memory.engines.sglang.pools import PACKED_ROW, SPARSE_ROW
from llmcalc.memory.engines.vllm.packed import is_packed
from llmcalc.model.inventory import Inventory
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import format_bytes

FOREIGN = ("exl2", "exl3", "eetq", "quip", "mlx")
"""Methods of other engines."""


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
    asked = scenario.beside
    predicts = asked is None or asked.draft is None or asked.word == "mtp"
    own = any(group.component == "mtp" for group in stored.groups)
    if options.drafts and options.era.counts_draft and own and predicts:
        stored = copy(stored)
        stored.loaded = (*stored.loaded, "mtp")
    sparse = settle_cache(scenario, keeps_index(stored))
    precision = precision_of(stored, scenario, book)
    beside = loaded_beside(stored, precision, scenario, placement, book, options.era.counts_draft)
    server = Server(stored, placement, precision, options, device, sparse, beside)
    held = -(-scenario.sequences // placement.dp)
    items = server.items(scenario.context, held, scenario.demand)
    limited = _limited(device, server, items)
    report = server_report(
        f"SGLang {options.era.name}", stored, scenario, placement, precision, items, limited, beside
    )
    report.warnings += halved
    _echo(report, server, sparse)
    tell_beside(report, scenario, beside, options.drafts)
    is_many = is_array(scenario.context) or is_array(scenario.sequences)
    if device is not None:
        report.share = _share(server, items)
        _check_budget(report, server, items, device)
        if is_many:
            _tell_of_arrays(report, server)
        else:
            _check_pools(report, server, scenario, items, device)
            if not scenario.quick:
                attach_capacity(report, server, scenario, items, device)
    if scenario.demand is not None:
        needs = server.needs(scenario.demand, held)
        tell_requests(report, scenario, items, needs, placement.ranks)
        if (scenario.demand.prefix or scenario.demand.outputs > 1) and not options.prefix:
            report.warnings.append("Without its radix cache SGLang shares no prompt.")
    return report


def _share(server: Server, items: list[Item]) -> tuple[str, int, int]:
    """The option of its share, what it must hold at worst, and what is no part of the memory it is of. [B]"""
    names = ("weights", "kv_cache", "state", "lora", *server.beside_names(True))
    counted = max(
        sum(int(item.high[n]) for item in items if item.name in names and not is_array(item.high[n]))
        for n in range(server.placement.pp)
    )
    return "mem_fraction_static", counted + server.images, server.before


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


def _check_pools(
    report: Report, server: Server, scenario: Scenario, items: list[Item], device: Device
) -> None:  # fmt: skip
    """A pool set by hand may be too small whatever the GPU has; and what is left is that of one stage."""
    limit, asked = report.device, (int(scenario.context), -(-int(scenario.sequences) // server.placement.dp))
    if limit is None:
        return
    budgets = server.budgets(items, device.usable_bytes)
    short = server.short(*asked, scenario.demand, budgets)
    # A budget of nothing is below every need: what is short then is a pool set by hand.
    by_hand = server.short(*asked, scenario.demand, [0 for _ in budgets]) if short else 0
    for name in ("usable_low", "usable_bytes", "usable_high") if short else ():
        # Of pools that the budget makes the other end of its range may hold it, of those set by hand none.
        least = int(report.range_bytes[0]) if by_hand else int(report.total_bytes)
        if by_hand or name != "usable_high":
            setattr(limit, name, max(min(getattr(limit, name), least - short), 0))
    if server.placement.pp > 1:  # the stage with least room decides, which need not be the fullest
        kept = [item for item in items if item.name in ("kv_cache", "state")]
        left = min(
            budget - sum(int(item.amounts[stage]) for item in kept) for stage, budget in enumerate(budgets)
        )
        limit.usable_bytes = max(min(limit.usable_bytes, int(report.total_bytes) + left), 0)
    if short and by_hand:
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
    named = server.beside.draft is not None
    if options.drafts and not named and not any(g.component == "mtp" for g in server.inventory.groups):
        report.warnings.append(
            "The draft model's own weights and caches are not counted; name it: --draft MODEL."
        )
    if server.is_bare:
        report.warnings.append(
            "A bare size counts as what is free when SGLang begins to load; name the card to have context "
            "and NCCL taken off."
        )
