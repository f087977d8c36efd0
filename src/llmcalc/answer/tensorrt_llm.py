"""Memory of TensorRT-LLM: weights, a dummy batch, and blocks in a share of what they leave."""

from __future__ import annotations

from copy import copy

from llmcalc.answer.beside_pool import loaded_beside, tell_beside
from llmcalc.answer.common import placement_of, precision_of
from llmcalc.answer.servers import auto_dtype, check_server, server_report, tell_requests
from llmcalc.catalog import Catalog
from llmcalc.estimate import Item
from llmcalc.formula import Quantity, is_array, smaller
from llmcalc.hardware import Device
from llmcalc.memory.engines.tensorrt_llm import KV_FORMATS
from llmcalc.memory.engines.tensorrt_llm.items import Server
from llmcalc.model.inventory import Inventory
from llmcalc.planning.pools import LONGEST, PoolCapacity
from llmcalc.planning.solve import most_that_fits
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import format_bytes

FOREIGN = ("mlx", "exl2", "exl3", "eetq", "quip", "bnb", "hqq", "aqlm", "gguf")
"""Methods of other engines."""


def tensorrt_llm_report(
    inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog
) -> Report:
    """What TensorRT-LLM takes of each GPU for a workload.

    Examples
    --------
    Llama-2-7B keeps 524,288 bytes a token, as in issue 1400: 69,524,783,104 bytes for 132,608 tokens.

    >>> from llmcalc import vram
    >>> found = vram("llama-2-7b", engine="tensorrt-llm", gpu="a100-80gb", context=4096)
    >>> found.capacity.kv_bytes_per_token == 69_524_783_104 // 132_608
    True
    """
    usual = "fp8, awq, gptq, w4a16, w8a8, nvfp4, mxfp4"
    check_server(inventory, scenario, "TensorRT-LLM", KV_FORMATS, FOREIGN, usual)
    scenario, halved = auto_dtype(scenario, "TensorRT-LLM")
    placement = placement_of(inventory, scenario, device)
    stored = scenario.stored(inventory)
    precision = precision_of(stored, scenario, book)
    beside = loaded_beside(stored, precision, scenario, placement, book, predicts=False)
    server = Server(stored, placement, precision, scenario.options, device, beside)
    held, demand = -(-scenario.sequences // placement.dp), scenario.demand
    items = server.items(scenario.context, held, demand)
    report = server_report(
        f"TensorRT-LLM {scenario.options.version}", stored, scenario, placement, precision, items,
        _limited(device, server, items), beside,
    )  # fmt: skip
    report.warnings += halved
    _echo(report, server)
    tell_beside(report, scenario, beside, 0)
    if device is not None:
        report.share = _share(server, items)
        report.margins = _margins(server, items, device)
        _check_budget(report, server, items, device)
        if not is_array(scenario.context) and not is_array(scenario.sequences):
            if placement.pp > 1:  # the stage with least room decides, which need not be the fullest
                _bind(report, server, items, device)
            if not scenario.quick:
                _attach_capacity(report, server, scenario, items, device)
    if demand is not None:
        tell_requests(report, scenario, items, server.needs(demand, held), placement.ranks)
        if (demand.prefix or demand.outputs > 1) and not scenario.options.reuses:
            report.warnings.append("Until 0.17 TensorRT-LLM reuses no blocks unless it is told to.")
    return report


def _share(server: Server, items: list[Item]) -> tuple[str, int, int]:
    """The option of its share, what the pool must hold, and what is taken of the free memory before. [B]"""
    stages = range(server.placement.pp)
    ends: dict[bool, list[int]] = {True: [], False: []}
    for is_pool in (True, False):
        for stage in stages:
            own = [
                item.high[stage] for item in items
                if (item.name in ("kv_cache", "state")) == is_pool and item.name != "cuda_graphs"
            ]  # fmt: skip
            ends[is_pool].append(sum(int(n) for n in own if not is_array(n)))
    return "free_gpu_memory_fraction", max(ends[True]), max(ends[False])


def _limited(device: Device | None, server: Server, items: list[Item]) -> Device | None:
    """The device as TensorRT-LLM lets itself use it: its share, and all that it takes beside."""
    if device is None:
        return None
    made = copy(device)
    others = [item for item in items if item.name not in ("kv_cache", "state")]
    for name in ("usable_low", "usable_bytes", "usable_high"):
        free = getattr(device, name)
        asked = max(
            budget + sum(int(item.amounts[stage]) for item in others)
            for stage, budget in enumerate(server.budgets(items, free))
        )
        setattr(made, name, min(asked, free))
    above, below = server.options.fraction
    made.basis = f"{device.basis}; {above / below:.4g} of what weights and a dummy batch leave is the pool"
    return made


def _rooms(server: Server, items: list[Item], free: int, end: str = "amounts") -> list[int]:
    """What caches may take on each rank class: the pool, as far as graphs leave it. [B]"""
    others = [item for item in items if item.name not in ("kv_cache", "state")]
    return [
        min(budget, free - sum(int(getattr(item, end)[stage]) for item in others))
        for stage, budget in enumerate(server.budgets(items, free, end))
    ]


def _margins(server: Server, items: list[Item], device: Device) -> tuple[Quantity, Quantity]:
    """What caches leave of their room, at the unfavourable and the favourable end. [B]"""
    found = []
    for free, end in ((device.usable_low, "high"), (device.usable_high, "low")):
        left = [
            room - sum(item.amounts[stage] for item in items if item.name in ("kv_cache", "state"))
            for stage, room in enumerate(_rooms(server, items, free, end))
        ]
        least = left[0]
        for other in left[1:]:
            least = smaller(least, other)
        found.append(least)
    return found[0], found[1]


def _bind(report: Report, server: Server, items: list[Item], device: Device) -> None:
    """Tell the memory so that what is left is what the stage with least room has left."""
    kept = [item for item in items if item.name in ("kv_cache", "state")]
    left = min(
        room - sum(int(item.amounts[stage]) for item in kept)
        for stage, room in enumerate(_rooms(server, items, device.usable_bytes))
    )
    if report.device is not None:
        report.device.usable_bytes = max(int(report.total_bytes) + left, 0)


def _check_budget(report: Report, server: Server, items: list[Item], device: Device) -> None:
    """Say how much is missing where nothing is left for blocks."""
    left = min(server.budgets(items, device.usable_bytes))
    if left <= 0:
        report.warnings.append(
            "TensorRT-LLM would not start: weights and a dummy batch leave no room for a cache; "
            f"{format_bytes(-left, 'gib')} are missing. Use more GPUs, a smaller --quant or fewer "
            "--max-num-tokens."
        )


def _echo(report: Report, server: Server) -> None:
    """The engine's settings as resolved."""
    options = server.options
    report.scenario |= {
        "engine_version": options.version,
        "free_gpu_memory_fraction": options.fraction[0] / options.fraction[1],
        "tokens_per_block": options.block,
        "max_batch_size": options.batch,
        "max_num_tokens": options.tokens,
        "enforce_eager": options.eager,
    }
    if options.note:
        report.warnings.append(options.note)
    report.warnings.append(
        "Of TensorRT-LLM only the pool's share and its bytes per token are checked against logs; "
        "weights, activations and graphs are assumed."
    )


def _attach_capacity(
    report: Report, server: Server, scenario: Scenario, items: list[Item], device: Device
) -> None:
    """Tokens that the pool holds, and the longest context of so many sequences."""
    context, placement, pools = int(scenario.context), server.placement, server.pools
    held = -(-int(scenario.sequences) // placement.dp)
    budgets = server.budgets(items, device.usable_bytes)
    safe = server.budgets(items, device.usable_low, "high")
    rooms = _rooms(server, items, device.usable_bytes)
    surely = _rooms(server, items, device.usable_low, "high")
    limit = LONGEST if scenario.allow_overlong or not report.context_limit else report.context_limit

    def left(room: list[int], tokens: int, many: int) -> int:
        pairs = zip(pools, room, strict=True)
        return min(budget - many * (int(pool.need(tokens)) + pool.state) for pool, budget in pairs)

    def reach(room: list[int], many: int, most: int) -> int | None:
        if not any(pool.rows for pool in pools):
            return (None if most == LONGEST else most) if left(room, 1, many) >= 0 else 0
        return most_that_fits(lambda tokens: left(room, tokens, many), most)

    pairs = [(pool, max(budget, 0)) for pool, budget in zip(pools, budgets, strict=True) if pool.rows]
    blocks = min((budget // (pool.row * pool.block) for pool, budget in pairs), default=0)
    holding = [(pool, max(b, 0)) for pool, b in zip(pools, budgets, strict=True) if pool.rows or pool.state]
    many = most_that_fits(lambda count: left(rooms, context, count), server.options.batch)
    worst = max(pools, key=lambda pool: pool.row)
    plain = {
        "kv_budget_bytes": min(budgets),
        "kv_tokens": blocks * server.options.block,
        "kv_bytes_per_token": worst.row,
        "max_concurrency": many * placement.dp,
        "max_context": reach(rooms, held, limit),
        "safe_context": reach(surely, held, limit),
    }
    own = {
        "kv_budget_range_bytes": [min(safe), min(server.budgets(items, device.usable_high, "low"))],
        "pool_tokens": blocks * server.options.block,
        "kv_blocks": blocks,
        "concurrency": round(
            min((b / (int(p.need(context)) + p.state) for p, b in holding), default=0.0) * placement.dp, 2
        ),
        "longest_request": reach(rooms, 1, LONGEST),
    }
    report.capacity = PoolCapacity(plain, own)
    if scenario.demand is not None:
        from llmcalc.answer.requests import settle_capacity

        charges = [server.charges[stage] for stage in range(placement.pp)]
        settle_capacity(report.capacity, scenario.demand, held, charges, (rooms, surely), limit)
        most = min(report.capacity.max_concurrency or 0, server.options.batch // scenario.demand.outputs)
        report.capacity.max_concurrency = most * placement.dp
