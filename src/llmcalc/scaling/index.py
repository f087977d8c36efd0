"""A small table by which laws are found without reading them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmcalc.catalog import Catalog

SILENT = ("secondary", "from-memory", "exponents-only", "form-only")
"""Status of laws that give no numbers."""


def silent_laws(catalog: Catalog, forms_wanted: Sequence[str]) -> list[str]:
    """Names of laws of some forms that give no numbers."""
    return [row[0] for row in catalog.table("law_answers") if row[3] in forms_wanted and row[4] in SILENT]


def answers_table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows of a small table by which laws are found without reading them all."""
    return ["\t".join(row_of(entry)) for entry in entries]


def row_of(entry: Mapping[str, Any]) -> list[str]:
    """Name, what it gives, whether it stands in a table of all, form, status."""
    listed = "beside" if entry.get("beside") else ""
    return [str(entry["name"]), " ".join(entry.get("answers", ())), listed, entry["form"], entry["status"]]
