"""What vLLM loads beside a model: a draft, and room for adapters."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.drafting import Drafting, drafting_of
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError
from llmcalc.estimate import Item
from llmcalc.memory.engines.vllm.items import Loaded
from llmcalc.memory.lora import slots_item
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.report import Report
from llmcalc.scenario import Scenario

EXPERTS_FROM = (0, 11)
"""The release since which experts have room for adapters too: 0.11.2 (vLLM PR 21229). [-]"""


class Beside(Loaded):
    """What is loaded, with the draft that it may hold."""

    __slots__ = ("drafting",)

    def __init__(self, drafting: Drafting | None = None, predicts: bool = True) -> None:
        own = drafting is not None and drafting.kind != "mtp"
        super().__init__(drafting.inventory if drafting is not None and own else None, predicts)
        self.drafting = drafting

    def caches(self, workload: Workload, demand: Any, stages: int) -> list[Item]:
        """What the draft remembers at least, apart from pages."""
        return [] if self.drafting is None else self.drafting.caches(workload, demand, stages)[0]


def loaded_beside(
    stored: Inventory, precision: Precision, scenario: Scenario, placement: Placement, book: Catalog
) -> Beside:
    """Draft and adapters of a scenario.

    Raises
    ------
    InputError, ConfigError
        For what vLLM can't load.
    """
    asked = scenario.beside
    drafting = drafting_of(stored, precision, scenario, placement, book)
    made = Beside(drafting, drafting is None or drafting.kind == "mtp")
    made.image_tokens = scenario.images[1] if scenario.images else 0
    if asked is None:
        return made
    if drafting is not None and drafting.kind != "mtp":
        if not scenario.options.era.is_v1 and drafting.kind != "model":
            raise InputError(
                f"vLLM {scenario.options.era.name} knows no EAGLE heads in this form.",
                "Use --engine-version 0.9 or newer.",
            )
        made.items.append(drafting.weights(placement.pp))
    if asked.slots:
        experts = scenario.options.era.version >= EXPERTS_FROM
        made.items.append(slots_item(stored, placement, asked.ranks[0], asked.slots, experts))
    return made


def tell_beside(report: Report, scenario: Scenario, beside: Beside) -> None:
    """What the reader should know of draft and adapters."""
    if scenario.images is not None and scenario.images[0] > 1 and not scenario.options.era.is_v1:
        report.warnings.append(
            f"Before V1 vLLM takes one image a prompt: --limit-mm-per-prompt image={scenario.images[0]}."
        )
    if scenario.beside is None:
        return
    report.scenario |= scenario.beside.to_dict()
    drafting = beside.drafting
    if drafting is not None:
        report.header.append(f"drafts {scenario.options.drafts} by {drafting.title}")
        if "num_speculative_tokens" not in scenario.stated:
            report.warnings.append(
                f"{scenario.options.drafts} drafted tokens are assumed; vLLM asks for "
                "--num-speculative-tokens."
            )
        if drafting.kind in ("eagle", "eagle3") and scenario.beside.word:
            report.warnings.append(
                "The head is taken to be one layer of the model's own shape; its config.json says what it is."
            )
