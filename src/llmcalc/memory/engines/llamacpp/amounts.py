"""What a deployment takes, by place."""

from __future__ import annotations

CACHES = ("draft_kv_cache", "draft_state")
"""Items beside the model that hold tokens."""


class Amounts:
    """Bytes on each device, and on the host last. [B]"""

    __slots__ = ("beside", "compute", "kv", "output", "state", "weights")

    def __init__(self, places: int) -> None:
        self.beside: dict[str, list[int]] = {}
        self.weights = [0] * places
        self.kv = [0] * places
        self.state = [0] * places
        self.compute = [0] * places
        self.output = 0

    def on_device(self, place: int) -> int:
        """All that lies on a device. [B]"""
        return self.fixed(place) + self.cached(place)

    def on_host(self) -> int:
        """All that lies on the host. [B]"""
        rows = (self.weights, self.kv, self.state, self.compute, *self.beside.values())
        return self.output + sum(row[-1] for row in rows)

    def cached(self, place: int) -> int:
        """Caches and states on a device, those of a draft too. [B]"""
        own = self.kv[place] + self.state[place]
        return own + sum(row[place] for name, row in self.beside.items() if name in CACHES)

    def fixed(self, place: int) -> int:
        """All else on a device. [B]"""
        own = self.weights[place] + self.compute[place]
        return own + sum(row[place] for name, row in self.beside.items() if name not in CACHES)
