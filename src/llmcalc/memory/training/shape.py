"""A layer's widths, as its ops and caches tell them."""

from __future__ import annotations

from llmcalc.model.inventory import Group, Inventory, Op, size


class Shape:
    """Heads and widths of a layer's attention.

    Attributes
    ----------
    heads, kv_heads : int
        Of queries, of keys. [-]
    width, value : int
        Of one head of queries and keys, of values. [elements]
    window : int or None
        Positions that are looked at. [tokens]
    """

    __slots__ = ("heads", "kv_heads", "value", "width", "window")

    def __init__(self, group: Group) -> None:
        self.heads = self.kv_heads = self.width = self.value = 0
        self.window: int | None = None
        for op in group.ops:
            if op.role == "attention":
                self._read(op, group)

    def _read(self, op: Op, group: Group) -> None:
        axes = dict(op.out[0])
        self.heads = axes.get("heads", axes.get("tower_heads", 1))
        self.width, self.value = size(op.out) // self.heads, size(op.inp) // self.heads
        self.kv_heads, self.window = self.heads, op.window
        for other in group.ops:
            if other.role == "key":
                self.kv_heads = size(other.out) // self.width
            elif other.role == "qkv":
                self.kv_heads = (size(other.out) - self.heads * self.width) // (self.width + self.value)
        for cache in group.caches:
            if cache.kind in ("full", "window", "chunk") and not cache.variants:
                self.kv_heads = dict(cache.parts[0][1][0]).get("kv_heads", self.kv_heads)

    def scratch(self, element: int, grouped: bool, kernel: str) -> int:
        """Bytes a token that flash kernels take in backward: queries in fp32, shared keys for every head.

        From the third version on shared keys and values are summed in fp32, once for all that share them.
        """
        third = kernel == "flash3"
        width = self.width + self.value
        shared = (4 * self.kv_heads if third else element * self.heads) * width if grouped else 0
        return 4 * self.heads * (self.width + (2 if third else 1)) + shared


def rotary_width(inventory: Inventory) -> int:
    """Width of one head that rotates: of a latent the part of its own. [elements]"""
    width = 0
    for group in inventory.groups:
        if group.place != "layer" or group.component != "text":
            continue
        for op in group.ops:
            if op.role == "kv_a":
                return size(op.out[1:])
            if op.role == "attention":
                width = max(width, size(op.out) // dict(op.out[0]).get("heads", 1))
    return int(width * inventory.rope[1]) // 2 * 2
