"""Real models of about one size: the derived table that stands beside a rule of thumb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.placement import Placement

SPAN_TOKENS = 4096
"""Context at which real models are compared with the rule of thumb. [tokens]"""


def spans_table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Rows by size: parameters, KV cache and state at 4,096 tokens in 16 bit, name."""
    from llmcalc.memory.caches import kv_item, state_item
    from llmcalc.memory.workload import Precision, Workload
    from llmcalc.model.readers.catalog import read_entry
    from llmcalc.precision import Format

    half = Format("bf16", 1, 2)
    precision = Precision(16, "bf16", "exact", half, half, half)
    catalog = Catalog.shipped()
    rows = []
    for entry in entries:
        inventory = read_entry(entry, catalog)
        placement = Placement(1, 1, 1, inventory.layers)
        workload = Workload({"encoder": SPAN_TOKENS, "image": 0, **inventory.streams, "decoder": SPAN_TOKENS})
        kept = kv_item(inventory, placement, precision, workload).bytes
        kept += state_item(inventory, placement, precision, workload).bytes
        rows.append((inventory.params, kept, str(entry["name"])))
    return ["\t".join(map(str, row)) for row in sorted(rows)]


def near(parameters: int, catalog: Catalog) -> list[tuple[int, int, str]]:
    """Catalog models of about that size: parameters, cache bytes at 4,096 tokens, name.

    Within 8 %, or 25 % where fewer than three are nearer.
    """
    rows = [(int(size), int(kept), name) for size, kept, name in catalog.table("model_spans")]
    for percent in (8, 25):
        found = [row for row in rows if abs(row[0] - parameters) * 100 <= parameters * percent]
        if len(found) >= 3:
            break
    return found
