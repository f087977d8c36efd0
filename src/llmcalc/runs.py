"""The measured run that is nearest to an estimate, from a small table that is made with the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog

FIELDS = (
    "run", "model", "params", "build", "tp", "quant", "quantity", "unit", "measured", "predicted", "source",
    "memory",
)  # fmt: skip
"""What a row of the table holds."""

TELLING = ("peak", "KV budget", "weights", "KV cache")
"""What says most of a run, the best first."""

AS_LARGE = 2
"""A run of another model of the family counts if one has at most so many times the other's parameters. [-]"""

ENGINES = {"ollama": "llama.cpp"}
"""Engines whose runs are told under another's name."""


def nearest_run(
    book: Catalog, engine: str, name: str, family: str, params: int, scenario: dict[str, Any]
) -> dict[str, Any] | None:
    """The run that is nearest: of a model with these layers, else of one of its family of about this size.

    Parameters
    ----------
    book : Catalog
        Where the table is.
    engine, name, family : str
        The engine that is estimated, and the model.
    params : int
        Its parameters. [-]
    scenario : dict
        What was asked, as resolved; ``memory`` is that of one GPU. [GiB]

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

    memory = scenario.get("memory")

    def apart(row: dict[str, Any]) -> tuple[float, bool, int, int, float, str]:
        size = max(row["params"], params) / max(min(row["params"], params), 1)
        other = (row["quant"] or "none") != (scenario.get("quant") or "none")
        ranks = abs(row["tp"] - int(scenario.get("tp") or 1))
        tells = TELLING.index(row["quantity"]) if row["quantity"] in TELLING else len(TELLING)
        cards = (
            max(row["memory"], memory) / min(row["memory"], memory) if row["memory"] and memory else AS_LARGE
        )
        return size, other, ranks, tells, cards, row["run"]

    own = rows(f"{engine} {name}")
    near = own + [row for row in rows(f"{engine} of {family}") if params and apart(row)[0] <= AS_LARGE]
    if not near:
        return None
    found = min(near, key=apart)
    return found | {"is_same_model": any(row["run"] == found["run"] for row in own)}
