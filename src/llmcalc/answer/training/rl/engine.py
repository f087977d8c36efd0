"""The engine that answers prompts: what it takes awake, asleep, and while new weights come."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.rl.asked import RlAsked
from llmcalc.catalog import Catalog
from llmcalc.estimate import Item
from llmcalc.model.inventory import Inventory
from llmcalc.report import Report

if TYPE_CHECKING:
    from llmcalc.hardware import Device

PAGES = ("kv_cache", "state")
STAYS = ("cuda_graphs", "runtime")
"""What vLLM and SGLang keep while they sleep: graphs and what is no tensor."""

PARTS = ("weights", "kv_cache", "state", "activations", "cuda_graphs", "runtime")
SHARE = {"vllm": "gpu_memory_utilization", "sglang": "mem_fraction_static"}
EAGER = {"vllm": "enforce_eager", "sglang": "disable_cuda_graph"}


class Engine:
    """One engine on one GPU.

    Attributes
    ----------
    report : Report
        Of the serving estimate.
    parts : dict
        Bytes awake, by item. [B]
    low, high : dict
        Their ranges. [B]
    pool : int
        Pages and states that are set aside. [B]
    holds : int or None
        Sequences that the pool holds at once. [-]
    sequences : int
        Those that it is asked for at once. [-]
    level : int
        At which it sleeps.
    shares_context : bool
        Whether it runs in the process that trains.
    """

    def __init__(self, report: Report, sequences: int, rl: RlAsked) -> None:
        self.report, self.sequences, self.level = report, sequences, rl.level
        self.shares_context = rl.framework.processes == "one" and rl.engine == "vllm"
        self.is_own = rl.engine != "transformers"
        capacity = report.capacity
        pooled = capacity is not None and getattr(capacity, "kv_budget_range_bytes", None) is not None
        self.holds = capacity.max_concurrency if pooled else None
        self.parts: dict[str, int] = {}
        self.low: dict[str, int] = {}
        self.high: dict[str, int] = {}
        for item in report.items:
            if item.where == "device":
                self._add(item)
        if not self.is_own:  # the policy's own weights and process
            for name in ("weights", "runtime"):
                self.parts[name] = self.low[name] = self.high[name] = 0
        if pooled:
            self._set_pool(int(capacity.kv_budget_bytes))
        self.pool = sum(self.parts.get(name, 0) for name in PAGES)

    def _add(self, item: Item) -> None:
        name = item.name if item.name in PARTS else "weights"
        amount, low, high = int(item.bytes), int(item.range_bytes[0]), int(item.range_bytes[1])
        if name == "runtime" and self.shares_context:
            own = sum(int(part.bytes) for part in item.items if part.name == "context")
            amount, low, high = amount - own, low - own, high - own
        self.parts[name] = self.parts.get(name, 0) + amount
        self.low[name] = self.low.get(name, 0) + low
        self.high[name] = self.high.get(name, 0) + high

    def _set_pool(self, budget: int) -> None:
        """Set pages to what a share leaves for them: what the profiled peak is off they make up for."""
        self.parts |= {"kv_cache": max(budget, 0), "state": 0}
        for end in (self.low, self.high):
            end |= {name: self.parts[name] for name in ("weights", "activations", "kv_cache", "state")}

    @property
    def starts(self) -> bool:
        """Whether there is room for a page, and enough is free."""
        return self.pool > 0 and not self.report.refusal

    def held(self, state: str, end: str = "parts") -> dict[str, int]:
        """What it holds ``awake``, ``asleep``, or with its ``weights`` alone; `end` as the attributes. [B]"""
        found: dict[str, int] = getattr(self, end)
        if state == "awake" or (not self.level and self.is_own):
            return dict(found)
        if not self.is_own:
            return {}
        names = STAYS if state == "asleep" else (*STAYS, "weights")
        return {name: found.get(name, 0) for name in names}

    @property
    def host(self) -> int:
        """What level 1 copies to the host. [B]"""
        return self.parts.get("weights", 0) if self.level == 1 else 0


def engine_of(
    inventory: Inventory, asked: Any, rl: RlAsked, book: Catalog, device: Device | None, sequences: int,
    length: int,
) -> Engine | None:  # fmt: skip
    """The engine of one iteration; None where there is none.

    Parameters
    ----------
    inventory : Inventory
        The policy.
    asked : Asked
        The training that it goes with.
    rl : RlAsked
        What was asked of the iteration.
    book : Catalog
        For formats.
    device : Device or None
        The GPU.
    sequences : int
        Answers that each engine is asked for at once. [-]
    length : int
        Tokens of prompt and answer. [tokens]
    """
    if rl.engine == "none":
        return None
    from llmcalc.answer.vram import model_report
    from llmcalc.scenario import resolve

    pooled = device is not None and rl.engine in SHARE
    given: dict[str, Any] = {
        "engine": rl.engine, "context": length, "allow_overlong": True, "tp": rl.tp, "pp": 1,
        # A pool is what the share leaves; who finds no page in it waits.
        "sequences": 1 if pooled else sequences, "reserve": asked.reserve or None,
    }  # fmt: skip
    if asked.scheme is not None:
        given["quant"] = asked.scheme.name.removesuffix("-head")
    if rl.engine in SHARE:
        given[SHARE[rl.engine]] = rl.share
        given[EAGER[rl.engine]] = True if rl.eager else None
    if rl.engine == "vllm":
        given |= rl.framework.engine
    scenario = resolve(inventory, book, given)
    if device is not None:
        device = copy(device)
        device.count = rl.rollout_gpus or rl.tp
        scenario.dp = None
    report = model_report(inventory, scenario, device, book, given)
    return Engine(report, sequences, rl)
