"""What SGLang and TensorRT-LLM load beside a model: a draft that shares the pool, and room for adapters."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.drafting import Drafting, drafting_of
from llmcalc.catalog import Catalog
from llmcalc.estimate import Item
from llmcalc.memory.engines.loaded import Loaded
from llmcalc.memory.lora import adapter_slots
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.report import Report
from llmcalc.scenario import Scenario


class Beside(Loaded):
    """What is loaded, with the draft that it may hold."""

    __slots__ = ("drafting",)

    def __init__(self, drafting: Drafting | None, own: bool) -> None:
        if drafting is not None and own:
            super().__init__(drafting.inventory, drafting.placement)
        else:
            super().__init__()
        self.drafting = drafting

    def caches(self, workload: Workload, demand: Any, stages: int) -> list[Item]:
        """What the draft remembers at least, apart from pools."""
        return [] if self.drafting is None else self.drafting.caches(workload, demand, stages)[0]


def loaded_beside(
    stored: Inventory, precision: Precision, scenario: Scenario, placement: Placement, book: Catalog,
    predicts: bool,
) -> Beside:  # fmt: skip
    """Draft and adapters of a scenario.

    Parameters
    ----------
    stored, precision, scenario, placement, book
        The model as it is served.
    predicts : bool
        Whether the engine counts the model's own prediction layers with its weights and pool.

    Raises
    ------
    InputError, ConfigError
        For what the server can't load.
    """
    asked = scenario.beside
    drafting = drafting_of(stored, precision, scenario, placement, book)
    own = drafting is not None and not (drafting.kind == "mtp" and predicts)
    made = Beside(drafting, own)
    if drafting is not None and own:
        made.items.append(drafting.weights(placement.pp))
    if asked is not None and asked.slots:
        made.items.append(adapter_slots(stored, placement, asked.ranks[0], asked.slots))
    return made


def tell_beside(report: Report, scenario: Scenario, beside: Beside, drafts: int) -> None:
    """What the reader should know of draft and adapters."""
    if scenario.beside is None:
        return
    report.scenario |= scenario.beside.to_dict()
    drafting = beside.drafting
    if drafting is not None:
        report.header.append(f"drafts {f'{drafts} ' if drafts else ''}by {drafting.title}")
        if drafts and not scenario.stated & {"num_speculative_tokens", "speculative_num_draft_tokens"}:
            report.warnings.append(
                f"{drafts} draft tokens a step are assumed; --speculative-num-draft-tokens says otherwise."
            )
        if drafting.kind in ("eagle", "eagle3") and scenario.beside.word:
            report.warnings.append(
                "The head is taken to be one layer of the model's own shape; its config.json says what it is."
            )
    if scenario.beside.slots:
        report.warnings.append(
            "Adapters are taken to change all linear layers but experts; each slot is of the largest rank."
        )
