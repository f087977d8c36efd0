"""The measured run that is nearest to an estimate, from a small table that is made with the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog

FIELDS = (
    "run", "model", "params", "build", "tp", "quant", "quantity", "unit", "measured", "predicted", "source",
)  # fmt: skip
"""What a row of the table holds."""

AS_LARGE = 2
"""A run of another model of the family counts if one has at most so many times the other's parameters. [-]"""

ENGINES = {"ollama": "llama.cpp"}
"""Engines whose runs are told under another's name."""


def nearest_run(
    book: Catalog, engine: str, name: str, family: str, params: int, scenario: dict[str, Any]
) -> dict[str, Any] | None:
    """The run that is nearest: of this model, else of one of its family of about this size.

    Parameters
    ----------
    book : Catalog
        Where the table is.
    engine, name, family : str
        The engine that is estimated, and the model.
    params : int
        Its parameters. [-]
    scenario : dict
        What was asked, as resolved.

    Examples
    --------
    >>> from llmcalc.catalog import Catalog
    >>> asked = {"tp": 2, "quant": None}
    >>> found = nearest_run(Catalog.shipped(), "vllm", "Qwen2.5-7B-Instruct", "qwen2", 7_615_616_512, asked)
    >>> found["tp"], found["quantity"], found["measured"], found["is_same_model"]
    (2, 'KV budget', 63.84, True)
    """
    engine = ENGINES.get(engine, engine)

    def rows(key: str) -> list[dict[str, Any]]:
        entry = book.lookup("runs", key)
        return [dict(zip(FIELDS, row, strict=True)) for row in entry["rows"]] if entry else []

    def apart(row: dict[str, Any]) -> tuple[float, bool, int, str]:
        size = max(row["params"], params) / max(min(row["params"], params), 1)
        return (
            size, (row["quant"] or "none") != (scenario.get("quant") or "none"),
            abs(row["tp"] - int(scenario.get("tp") or 1)), row["run"],
        )  # fmt: skip

    own = rows(f"{engine} {name}")
    near = own or [row for row in rows(f"{engine} of {family}") if params and apart(row)[0] <= AS_LARGE]
    if not near:
        return None
    return min(near, key=apart) | {"is_same_model": bool(own)}
