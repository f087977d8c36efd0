"""What SGLang's pools hold: tokens, windows, states, the longest context and the most requests."""

from __future__ import annotations

from llmcalc.demand import Demand
from llmcalc.estimate import Item
from llmcalc.hardware import Device
from llmcalc.memory.engines.sglang.items import Server
from llmcalc.memory.engines.sglang.pools import Pool
from llmcalc.planning.pools import LONGEST, SlotCapacity
from llmcalc.planning.solve import most_that_fits
from llmcalc.report import Report
from llmcalc.scenario import Scenario

LEAST, MOST = 2048, 4096
"""Running requests where nobody limits them: 512 for each context that the pool holds, within these. [-]"""


class Room:
    """What one end of the budget gives each rank class.

    Parameters
    ----------
    server, items : Server and list of Item
        What is served.
    free : int
        What a process can take of the GPU. [B]
    end : str
        Of the items: ``amounts``, or ``high`` to be safe.
    all_items : bool
        Whether all items are taken at that end: where what lies outside the share is more than is left
        there. Else the share is decided without them, and only weights are.
    """

    def __init__(
        self, server: Server, items: list[Item], free: int, end: str = "amounts", all_items: bool = False
    ) -> None:
        self.server = server
        self.printed = server.budgets(items, free, end)
        self.budgets = self.printed
        if end == "high":  # what a token takes may be more, too
            self.budgets = [own * 100 // server.spread[1] if own > 0 else own for own in self.printed]
        stages = range(server.placement.pp)
        fixed = [item for item in items if item.name not in ("kv_cache", "state", "draft_kv_cache")]
        self.caps = [
            free
            - sum(
                int(getattr(item, end if all_items or item.name == "weights" else "amounts")[n])
                for item in fixed
            )
            for n in stages
        ]

    def pairs(self) -> list[tuple[Pool, int]]:
        """Pools that hold something, with their budgets."""
        found = zip(self.server.pools, self.budgets, strict=True)
        return [(pool, budget) for pool, budget in found if pool.cell[0] or pool.state]

    def left(self, tokens: int, many: int, demand: Demand | None) -> int:
        """Tokens that requests leave on the rank with least; below 0 where they do not fit. [tokens]"""
        least = LONGEST
        for place, pool in enumerate(self.server.pools):
            if not (pool.cell[0] or pool.state):
                continue
            needed, slots = self.server.asked(pool, tokens, many, demand)
            if demand is None and pool.is_fixed:
                slots = many * pool.slots_each
            elif pool.is_fixed and demand is not None:
                slots = self.server.priced(pool, demand).slots(many)
            if pool.state and slots > pool.slots(self.budgets[place]):
                return -1
            if not pool.cell[0]:
                continue
            above, below = pool.cell
            caches, states = pool.cost(needed, slots)
            row = self.server.row_outside if place == len(self.server.pools) - 1 else 0
            outside = (self.caps[place] - int(caches) - int(states) - row * int(needed)) * below // above
            least = min(least, pool.tokens(self.budgets[place]) - int(needed), outside)
        return least

    def reach(self, many: int, most: int, demand: Demand | None) -> int | None:
        """The longest context of so many sequences; None where any length fits."""
        if not any(pool.cell[0] for pool in self.server.pools):
            fits = self.left(1, many, demand) >= 0
            return (None if most == LONGEST else most) if fits else 0
        shaped = demand.shaped if demand is not None else None
        return most_that_fits(lambda n: self.left(n, many, shaped(n) if shaped else None), most)


def running(server: Server, tokens: int, slots: int, limit: int | None) -> int:
    """Requests that may run at once on one replica. [-]"""
    asked = server.options.requests
    found = max(min(tokens * 512 // (limit or tokens or 1), MOST), LEAST)
    if asked is not None:
        found = max(asked // (server.options.replicas if server.options.shares_batch else 1), 1)
    worst = server.pools[0]
    if worst.cell[0]:
        found = min(found, tokens // 2)
    return min(found, slots // worst.slots_each) if any(p.state for p in server.pools) else found


def attach_capacity(
    report: Report, server: Server, scenario: Scenario, items: list[Item], device: Device
) -> None:
    """Tokens, windows and states that the pools hold, and the longest context of so many sequences."""
    context, placement, pools = int(scenario.context), server.placement, server.pools
    held, demand = -(-int(scenario.sequences) // placement.dp), scenario.demand
    room = Room(server, items, device.usable_bytes)
    safe = Room(server, items, device.usable_low, "high", report.beside == (0, 0))
    limit = LONGEST if scenario.allow_overlong or not report.context_limit else report.context_limit
    keeping = [(pool, budget) for pool, budget in room.pairs() if pool.cell[0]]
    tokens = min((pool.tokens(budget) for pool, budget in keeping), default=0)
    slots = min((pool.slots(budget) for pool, budget in room.pairs() if pool.state), default=0)
    requests = running(server, tokens, slots, report.context_limit)
    if demand is not None:
        requests //= demand.outputs
    most = requests
    if keeping:
        most = most_that_fits(lambda many: room.left(context, many, demand), max(requests, 1))
    first = next((pool for pool, _ in keeping if pool.window and pool.full), None)
    above, below = max((pool.cell for pool in pools), key=lambda cell: cell[0] / cell[1])
    plain = {
        "kv_budget_bytes": min(room.budgets),
        "kv_tokens": tokens,
        "kv_bytes_per_token": -(-above // below),
        "max_concurrency": min(most, requests) * placement.dp,
        "max_context": room.reach(held, limit, demand),
        "safe_context": safe.reach(held, limit, demand),
    }
    if plain["safe_context"] is not None and plain["max_context"] is not None:  # states take whole slots
        plain["safe_context"] = min(plain["safe_context"], plain["max_context"])
    report.capacity = SlotCapacity(
        plain,
        {
            "kv_budget_range_bytes": [
                min(safe.printed), min(server.budgets(items, device.usable_high, "low")),
            ],
            "pool_tokens": tokens,
            "kv_blocks": tokens // pools[0].page,
            "concurrency": round(min(tokens / int(pools[0].aligned(context)), requests) * placement.dp, 2)
            if keeping else float(requests * placement.dp),
            "longest_request": room.reach(1, LONGEST, None),
            "full_tokens": tokens if first else None,
            "window_tokens": tokens * first.ratio[0] // first.ratio[1] // first.page * first.page
            if first else None,
            "state_slots": slots if any(pool.state for pool in pools) else None,
            "running_requests": requests * placement.dp,
        },
    )  # fmt: skip
