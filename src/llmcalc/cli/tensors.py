"""``llmcalc params --tensors``: every tensor with its names."""

from __future__ import annotations

from typing import Any

from llmcalc.cli.listing import show_list
from llmcalc.cli.options import given


def list_tensors(options: dict[str, Any]) -> int:
    """List the tensors of a model in the chosen format."""
    from llmcalc.api import params

    inventory = params(**given(options)).inventory
    rows = [
        {
            "name": tensor.name,
            "gguf": tensor.gguf,
            "shape": " x ".join(map(str, tensor.shape)),
            "role": tensor.role,
            "tag": tensor.tag,
        }
        for tensor in inventory.tensors
    ]
    return show_list(rows, options, "tensors", None)
