"""Parameters by role, layer or tag."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.common import precision_of, priced, report_of, size_of
from llmcalc.catalog import Catalog
from llmcalc.estimate import Item, worst_grade
from llmcalc.memory import inference
from llmcalc.model.inventory import TAGS, Inventory
from llmcalc.placement import Placement
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import whole_or_fraction


def params_report(inventory: Inventory, scenario: Scenario, book: Catalog, by: str = "role") -> Report:
    """Parameters by role, layer or tag, with their bytes."""
    inventory = scenario.stored(inventory)
    precision = precision_of(inventory, scenario, book, TAGS if by == "tag" else ("main",))
    stored = inventory.breakdown(by, stored=True) if scenario.bits is None else {}
    grade = worst_grade([precision.grade, inventory.grade])
    items = []
    for name, own in {**inventory.breakdown(by), **stored}.items():
        counted = inventory.breakdown(by).get(name, {})
        number = sum((counted or own).values())
        size = sum(
            int(inference.weight_bytes(many, precision.bits(kind)))
            for kind, many in (own if scenario.bits is None else {"": number}).items()
        )
        bits: Any = whole_or_fraction(8 * size, number) if number else precision.weight_bits
        items.append(
            Item(
                name,
                [size],
                grade=grade,
                formula="sum of tensors",
                inputs={"parameters": number, "bits": bits},
                note=f"{number:,}",
            )
        )
    report = report_of("params", inventory, scenario, Placement(1, 1, 1, inventory.layers), items, None)
    report.scenario = {key: report.scenario[key] for key in ("dtype", "bits", "quant")}
    size_ = [] if inventory.is_opaque else [f"{size_of(inventory)} params"]
    report.header = [inventory.title, *size_, priced(inventory, scenario, precision)]
    report.warnings += scenario.notes + inventory.warnings
    report.inventory = inventory
    return report
