"""Which layers stand for all of them where an estimate is to be quick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.memory.engines.llamacpp.layer import Layer


def sample(
    layers: Sequence[Layer], where: dict[int, int], elsewhere: dict[tuple[int, str], int]
) -> list[int]:
    """Layers that decide the buffers: equal ones in equal surroundings are written out three times."""
    moved: dict[int, tuple[tuple[str, int], ...]] = {}
    for (layer, role), place in elsewhere.items():
        moved[layer] = (*moved.get(layer, ()), (role, place))
    keys = [
        (id(layer), layer.is_windowed, where[place], moved.get(place, ()))
        for place, layer in enumerate(layers)
    ]
    seen: dict[Any, int] = {}
    chosen = []
    for place, key in enumerate(keys):
        around = (keys[place - 1] if place else None, key, keys[place + 1] if place + 1 < len(keys) else None)
        seen[around] = seen.get(around, 0) + 1
        if seen[around] <= 3 or place == len(keys) - 1:
            chosen.append(place)
    return chosen
