"""What vLLM has for pages, at each end of its range and at each length; the capacities that follow."""

from __future__ import annotations

from collections.abc import Callable

from llmcalc.demand import Demand
from llmcalc.estimate import Item
from llmcalc.formula import Quantity, smaller
from llmcalc.hardware import Device
from llmcalc.memory.engines.vllm.items import Server
from llmcalc.memory.engines.vllm.profile import CHUNKED
from llmcalc.planning.pools import LONGEST, PoolCapacity
from llmcalc.planning.solve import most_that_fits
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import MIB

PAGES = ("kv_cache", "state")
"""Items that are pages of the pool."""


class Room:
    """What a server leaves for pages on each rank class.

    Parameters
    ----------
    server : Server
        What is served.
    items : list of Item
        Its estimate.
    device : Device
        One GPU, less what others use.
    limited : Device
        The same as vLLM lets itself use it.
    requested : int
        What vLLM asks for. [B]

    Attributes
    ----------
    missing : int
        What is missing for it to start: free memory that it asks for, or room for a pool set by hand. [B]
    never_starts : bool
        Whether that is so over the whole range.
    most_pool : int
        The largest pool set by hand that surely has room; 0 where none is set or has. [B]
    squeezed : int
        By how much its share and what it does not count exceed what is free. [B]
    """

    __slots__ = (
        "_base", "device", "items", "limited", "missing", "most_pool", "never_starts", "requested", "server",
        "squeezed",
    )  # fmt: skip

    def __init__(
        self, server: Server, items: list[Item], device: Device, limited: Device, requested: int
    ) -> None:  # fmt: skip
        self.server, self.items, self.requested = server, items, requested
        self.device, self.limited = device, limited
        self._base = {end: self._physical(server, items, end) for end in ("low", "amounts", "high")}
        pool = server.options.pool
        self.most_pool = 0
        if pool is None:
            self.missing = max(requested - device.usable_bytes, 0)
            self.never_starts = self.missing > 0
            self.squeezed = max(requested + server.most_outside(items) - device.usable_bytes, 0)
            return
        self.squeezed = 0
        self.missing = max(pool - min(self._base["amounts"]), 0)
        self.never_starts = pool > min(self._base["high"])
        least = min(self._base["low"]) // MIB * MIB
        self.most_pool = max(least, 0)

    def _physical(self, server: Server, items: list[Item], end: str) -> list[int]:
        """What is free on each rank class beside all but pages. [B]"""
        usable = {"low": "usable_low", "amounts": "usable_bytes", "high": "usable_high"}[end]
        free, far = int(getattr(self.device, usable)), {"low": "high", "high": "low"}.get(end, end)
        if server.options.pool is None:
            # By the range of the budget, which is narrower than the ranges of its parts together.
            budgets = server.budgets(items, self.requested, end)
            return [
                free - (self.requested - budget) - server.outside(items, stage, far)
                for stage, budget in enumerate(budgets)
            ]
        return [
            free - sum(int(getattr(item, far)[stage]) for item in items if item.name not in PAGES)
            for stage in range(server.placement.pp)
        ]

    def budgets(self, end: str = "amounts") -> list[int]:
        """The pool's size on each rank class, as vLLM reckons it. [B]"""
        return self.server.budgets(self.items, self.requested, end)

    def left(self, end: str, tokens: int | None = None) -> list[int]:
        """What pages may take on each rank class, at an end of the range and with requests so long. [B]

        The lesser of the pool's size and of what is free in fact. A pool set by hand is there or is not.
        """
        server, items, physical = self.server, self.items, self._base[end]
        if tokens is not None and server.reads_whole:
            server = server.at(tokens)
            items = [server.profiled() if item.name == "activations" else item for item in items]
            physical = self._physical(server, items, end)
        if server.options.pool is not None:
            return [server.options.pool if server.options.pool <= own else -1 for own in physical]
        usable = {"low": self.limited.usable_low, "high": self.limited.usable_high}
        off = usable.get(end, self.limited.usable_bytes) - self.limited.usable_bytes
        budgets = server.budgets(items, self.requested, end)
        return [min(budget + off, own) for budget, own in zip(budgets, physical, strict=True)]

    def margins(self) -> tuple[Quantity, Quantity]:
        """What pages leave of the budget, at the unfavourable end of GPU and budget and at the other. [B]"""
        pool = self.server.options.pool
        found = []
        for end in ("low", "high"):
            room = self.left(end) if pool is None else [pool] * self.server.placement.pp
            least: Quantity = None
            for stage, budget in enumerate(room):
                held = sum(item.amounts[stage] for item in self.items if item.name in PAGES)
                left = budget - held
                if pool is not None:
                    left = smaller(left, self._base[end][stage] - pool)
                least = left if least is None else smaller(least, left)
            found.append(least)
        return found[0], found[1]

    @property
    def starts(self) -> bool:
        """Whether it is expected to start at all."""
        return not self.missing


def attach_capacity(report: Report, room: Room, scenario: Scenario) -> None:
    """The three capacities of a pool, and the longest context of so many sequences."""
    server = room.server
    context, placement = int(scenario.context), server.placement
    held = -(-int(scenario.sequences) // placement.dp)
    budgets = room.budgets()
    pairs = [(p, b) for p, b in zip(server.pools, budgets, strict=True) if p.groups]
    limit = LONGEST if scenario.allow_overlong or not report.context_limit else report.context_limit
    blocks = min((pool.blocks(budget) for pool, budget in pairs), default=0)
    worst = max(server.pools, key=lambda pool: int(pool.need(context)))
    if scenario.options.era.counts_pages:
        concurrency = min((p.blocks(b) / int(p.blocks_of(context)) for p, b in pairs), default=0.0)
    else:
        concurrency = min((p.tokens(p.blocks(b), context) / context for p, b in pairs), default=0.0)
    tokens = min((p.tokens(p.blocks(b), context) for p, b in pairs), default=0)
    plain = {
        "kv_budget_bytes": min(budgets),
        "kv_tokens": tokens,
        "kv_bytes_per_token": int(worst.bytes_per_token(context)),
        "max_concurrency": _most(room, context) * placement.dp if pairs else None,
        "max_context": longest(room, "amounts", held, limit),
        "safe_context": longest(room, "low", held, limit),
    }
    own = {
        "kv_budget_range_bytes": [min(room.budgets("low")), min(room.budgets("high"))],
        "pool_tokens": tokens,
        "kv_blocks": blocks,
        "concurrency": round(concurrency * placement.dp, 2),
        "longest_request": _reach(server, lambda _: budgets, 1, LONGEST),
    }
    report.capacity = PoolCapacity(plain, own)
    if scenario.demand is not None and pairs:
        _of_requests(report, room, scenario.demand, held, limit)
    if not room.starts:
        report.capacity.max_context = report.capacity.safe_context = 0
        report.capacity.max_concurrency = 0


def _most(room: Room, context: int) -> int:
    """Requests of a length that the pool holds at once. [-]"""
    pairs = [(p, b) for p, b in zip(room.server.pools, room.left("amounts"), strict=True) if p.groups]
    each = max(int(pool.blocks_of(context)) for pool, _ in pairs)
    return min(pool.blocks(budget) for pool, budget in pairs) // each if each else 0


def _of_requests(report: Report, room: Room, demand: Demand, held: int, limit: int) -> None:
    """The capacities for requests that are not all alike."""
    from llmcalc.answer.requests import settle_capacity
    from llmcalc.memory.engines.vllm.requests import Blocks

    def held_at(end: str) -> list[int]:
        rooms = zip(room.server.pools, room.left(end), strict=True)
        return [p.blocks(b) * p.block_bytes for p, b in rooms if p.groups]

    charges = [Blocks(pool) for pool in room.server.pools if pool.groups]
    ends = (held_at("amounts"), held_at("low"))
    settle_capacity(report.capacity, demand, held, charges, ends, limit)
    report.capacity.max_concurrency = (report.capacity.max_concurrency or 0) * room.server.placement.dp


def longest(room: Room, end: str, many: int, most: int) -> int | None:
    """The longest context of so many requests; 0 for none, None for any. [tokens]

    Parameters
    ----------
    room : Room
        What is left for pages.
    end : str
        ``low`` to be safe, ``amounts`` as expected.
    many : int
        Requests held at once. [-]
    most : int
        Where the search ends. [tokens]
    """

    def left(tokens: int) -> list[int]:
        return room.left(end, tokens)

    if not room.server.reads_whole:
        fixed = room.left(end)
        return _reach(room.server, lambda _: fixed, many, most)
    if most > CHUNKED:  # from here on prompts are read in chunks, and the peak is small again
        found = _reach(room.server, left, many, most, CHUNKED)
        if found is None or found > CHUNKED:
            return found
    return _reach(room.server, left, many, min(most, CHUNKED))


def _reach(
    server: Server, room: Callable[[int], list[int]], many: int, most: int, past: int = 0
) -> int | None:
    """The longest request beyond a length, so many at once, within what is left at each length. [tokens]"""

    def left(tokens: int) -> int:
        return min(
            pool.blocks(budget) - many * int(pool.blocks_of(past + tokens))
            for pool, budget in zip(server.pools, room(past + tokens), strict=True)
            if pool.groups
        )

    if min(room(past + 1)) < 0:  # no page, or it does not start
        return 0
    pools = [pool for pool in server.pools if pool.groups]
    if any(pool.grows for pool in pools) or (pools and left(1) < 0):
        found = most_that_fits(left, most - past)
        return past + found if found else 0
    return None if most == LONGEST else most  # states alone: any length
