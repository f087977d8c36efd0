"""What is asked beyond one model and one length of the minimum: requests, drafts, adapters."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.drafting import Drafting, drafting_of
from llmcalc.answer.requests import attach_requests, cases_of
from llmcalc.catalog import Catalog
from llmcalc.demand.needs import Needs
from llmcalc.estimate import Item
from llmcalc.formula import is_array
from llmcalc.memory.caches import Profile, profiles
from llmcalc.memory.lora import adapters_item
from llmcalc.memory.requests import request_items
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.report import Report
from llmcalc.scenario import Scenario

GROWING = ("kv_cache", "state", "draft_kv_cache", "draft_state")
"""Items that a budget for caches pays."""


class Asked:
    """Requests, a draft and adapters of one estimate.

    Parameters
    ----------
    inventory, placement, precision : Inventory, Placement, Precision
        The model, its ranks and formats.
    workload : Workload
        What one replica remembers.
    scenario : Scenario
        With what is asked.
    book : Catalog
        For a draft.
    """

    def __init__(
        self, inventory: Inventory, placement: Placement, precision: Precision, workload: Workload,
        scenario: Scenario, book: Catalog,
    ) -> None:  # fmt: skip
        self.inventory, self.placement, self.precision = inventory, placement, precision
        self.workload, self.scenario = workload, scenario
        self.drafting: Drafting | None = drafting_of(inventory, precision, scenario, placement, book)
        self.cases: list[dict[str, Any]] = []
        self.needs: list[Needs] = []
        self.has_states = False

    def put_into(self, items: list[Item]) -> None:
        """Change and add items."""
        demand, stages = self.scenario.demand, self.placement.pp
        drafted: list[Needs] | None = None
        if demand is not None:
            items[1:3], self.needs = request_items(
                self.inventory, self.placement, self.precision, self.workload, demand
            )
        if self.drafting is not None:
            kept, drafted = self.drafting.caches(self.workload, demand, stages)
            items += [self.drafting.weights(stages), *kept]
        if self.scenario.beside is not None and self.scenario.beside.ranks:
            items.append(adapters_item(self.inventory, self.placement, self.scenario.beside.ranks))
        if demand is not None:
            if drafted is not None:
                self.needs[-1] = self.needs[-1] + drafted[0]
            states = items[2].bytes
            self.has_states = bool(states.any()) if is_array(states) else bool(states)
            drafts = [item for item in items if item.name in GROWING[2:]]
            self.cases = cases_of(items, self.needs, self.placement.ranks, drafts)

    def tell(self, report: Report) -> None:
        """Say in a report what was asked."""
        demand, beside = self.scenario.demand, self.scenario.beside
        if demand is not None:
            attach_requests(report, demand, self.cases, self.needs, self.scenario.sequences)
            if self.has_states and (demand.prefix or demand.outputs > 1):
                report.warnings.append("Recurrent states are not shared: each output has its own.")
        if beside is not None:
            report.scenario |= beside.to_dict()
        if self.drafting is not None:
            report.header.append(f"drafts by {self.drafting.title}")

    def profiles(self, found: list[Profile]) -> list[Profile]:
        """How the caches of model and draft grow together."""
        if self.drafting is None:
            return found
        draft = self.drafting
        own = profiles(draft.inventory, draft.placement, draft.precision, self.workload)
        return [*found[:-1], found[-1] + own[0]]


def asked_of(
    items: list[Item], inventory: Inventory, placement: Placement, precision: Precision, workload: Workload,
    scenario: Scenario, book: Catalog,
) -> Asked | None:  # fmt: skip
    """Put what is asked into the items of an estimate; None where there is nothing more."""
    if scenario.demand is None and scenario.beside is None:
        return None
    made = Asked(inventory, placement, precision, workload, scenario, book)
    made.put_into(items)
    return made
