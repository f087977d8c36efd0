"""Caches of requests that vary, share a prefix, or have several outputs: the architecture's minimum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.demand import Demand
from llmcalc.demand.needs import Needs, Priced
from llmcalc.estimate import Item
from llmcalc.formula import Quantity, larger
from llmcalc.memory.caches import Profile, kv_item, profiles, state_item
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement

SERVING = ("prefill", "decode")
CASES = ("expected", "p95", "worst")


class Shared:
    """What requests hold at least: a prefix once, each prompt once, each output by itself.

    A state is one for each output: what it has read can't be told apart any more.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def once(self, demand: Demand) -> Quantity:
        """The shared prefix, as far as the windows of the shortest request still reach into it. [B]"""
        return self.profile.held(0, demand.prefix, demand.least) if demand.prefix else 0

    def request(self, demand: Demand, prompt: Quantity, output: Quantity) -> Quantity:
        """The rest of the prompt, and each output with its state. [B]"""
        own = larger(prompt - demand.prefix, 0)
        start = prompt - own
        one = self.profile.held(start + own, output, 0) + self.profile.state
        return self.profile.held(start, own, output) + demand.outputs * one


def priced_requests(
    inventory: Inventory, placement: Placement, precision: Precision, workload: Workload, demand: Demand
) -> list[Priced]:
    """The requests of a demand on each rank class."""
    return [Priced(demand, Shared(own)) for own in profiles(inventory, placement, precision, workload)]


def request_items(
    inventory: Inventory, placement: Placement, precision: Precision, workload: Workload, demand: Demand
) -> tuple[list[Item], list[Needs]]:
    """KV cache and state of all requests at the 95th percentile, and what else they may need.

    Parameters
    ----------
    inventory, placement, precision : Inventory, Placement, Precision
        The model, its ranks and formats.
    workload : Workload
        Requests of one replica, the other streams, and the engine's layout.
    demand : Demand
        What each of them asks.

    Returns
    -------
    list of Item
        ``kv_cache`` and ``state``.
    list of Needs
        Of both together, one for each rank class. [B]
    """
    many = workload.sequences
    outputs = Workload(workload.streams, many * demand.outputs, workload.layout, workload.assumed)
    state = state_item(inventory, placement, precision, outputs)
    plain = kv_item(inventory, placement, precision, Workload(workload.streams, 1, workload.layout))
    needs = [one.needs(many) for one in priced_requests(inventory, placement, precision, workload, demand)]
    kept = kv_of(needs, state.amounts, demand, many, plain)
    return [kept, state], needs


def kv_of(
    needs: Sequence[Needs], states: Sequence[Any], demand: Demand, many: Quantity, plain: Item
) -> Item:  # fmt: skip
    """The item of the KV cache: what requests need at the 95th percentile, less their states."""
    return Item(
        "kv_cache",
        [need.p95 - state for need, state in zip(needs, states, strict=True)],
        phases=SERVING,
        grade="derived" if demand.varies else plain.grade,
        formula="sum of requests",
        inputs={"requests": many, "prompt": demand.prompt, "output": demand.output, **demand.to_dict()},
        source=plain.source,
        note=plain.note,
    )
