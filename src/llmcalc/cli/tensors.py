"""``llmcalc params --tensors``: every tensor with its names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmcalc.cli.listing import show_list
from llmcalc.cli.options import given

PLAIN = ("bf16", "fp16", "fp32", "fp64", "fp8", "int8")
"""Dtypes of tensors that are not a GGUF file's own: a narrow terminal shows their Hugging Face names."""


def list_tensors(options: dict[str, Any]) -> int:
    """List the tensors of a model in the chosen format."""
    from llmcalc.api import params

    report = params(**given(options))
    inventory, plain = report.inventory, report.scenario["dtype"]
    rows = []
    for tensor in in_order(inventory.tensors):
        common = {"role": tensor.role, "tag": tensor.tag}
        if not tensor.stored:
            rows.append(_row(tensor.name, tensor.gguf, tensor.shape, tensor.dtype or plain, common))
        for place, (name, dtype, shape) in enumerate(tensor.stored):
            own = {**common, "tag": "scale"} if place else common
            rows.append(_row(name, None, shape, dtype, own))
    is_gguf = inventory.source == "gguf" or any(row["dtype"] not in PLAIN and row["gguf"] for row in rows)
    return show_list(rows, options, "tensors", None, ("role", "name" if is_gguf else "gguf", "tag"))


def in_order(tensors: Iterable[Any]) -> list[Any]:
    """Tensors by layer, where groups of equal layers alternate; what stands outside layers stays there."""
    runs: list[list[Any]] = []
    for tensor in tensors:
        alone = tensor.layer is None
        if not runs or alone != (runs[-1][0].layer is None) or tensor.component != runs[-1][0].component:
            runs.append([])
        runs[-1].append(tensor)
    return [one for run in runs for one in sorted(run, key=lambda tensor: tensor.layer or 0)]


def _row(
    name: str, gguf: str | None, shape: tuple[int, ...], dtype: str, common: dict[str, str]
) -> dict[str, Any]:
    return {"name": name, "gguf": gguf, "shape": " x ".join(map(str, shape)), "dtype": dtype, **common}
