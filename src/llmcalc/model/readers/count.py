"""A bare number of parameters: one opaque group, no invented layers."""

from __future__ import annotations

from typing import Any

from llmcalc.model.inventory import Group, Inventory, Tensor, dim
from llmcalc.units import format_count, parse_count


def read_count(value: Any, what: str = "--params") -> Inventory:
    """Read ``13b``, ``7.24e9`` or a number.

    Examples
    --------
    >>> read_count("13b").params
    13000000000
    """
    number = parse_count(value, what)
    group = Group("text", "embedding", (), [Tensor("parameters", (dim(parameters=number),))])
    title = f"{format_count(number)} parameters"
    inventory = Inventory(str(value), "count", "count", [group], title=title)
    inventory.origin = "a bare count"
    return inventory
