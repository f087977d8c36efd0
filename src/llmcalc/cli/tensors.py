"""``llmcalc params --tensors``: every tensor with its names."""

from __future__ import annotations

from typing import Any

from llmcalc.cli.listing import show_list
from llmcalc.cli.options import given


def list_tensors(options: dict[str, Any]) -> int:
    """List the tensors of a model in the chosen format."""
    from llmcalc.api import params

    report = params(**given(options))
    inventory, plain = report.inventory, report.scenario["dtype"]
    rows = []
    for tensor in inventory.tensors:
        common = {"role": tensor.role, "tag": tensor.tag}
        if not tensor.stored:
            rows.append(_row(tensor.name, tensor.gguf, tensor.shape, tensor.dtype or plain, common))
        for place, (name, dtype, shape) in enumerate(tensor.stored):
            own = {**common, "tag": "scale"} if place else common
            rows.append(_row(name, None, shape, dtype, own))
    return show_list(rows, options, "tensors", None)


def _row(
    name: str, gguf: str | None, shape: tuple[int, ...], dtype: str, common: dict[str, str]
) -> dict[str, Any]:
    return {"name": name, "gguf": gguf, "shape": " x ".join(map(str, shape)), "dtype": dtype, **common}
