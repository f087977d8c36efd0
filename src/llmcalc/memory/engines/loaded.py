"""What a server loads beside a model: a draft, whose caches may share its pool, and adapters."""

from __future__ import annotations

from copy import copy

from llmcalc.estimate import Item
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement


class Loaded:
    """What lies beside a model.

    Attributes
    ----------
    items : list of Item
        Weights of a draft, adapters.
    draft, placement : Inventory and Placement, or None
        A draft whose caches lie in the model's pool or beside it, and the ranks that share it.
    predicts : bool
        Whether the model's own prediction layers draft, as part of its weights.
    """

    __slots__ = ("draft", "items", "placement", "predicts")

    def __init__(self, draft: Inventory | None = None, placement: Placement | None = None) -> None:
        self.draft, self.placement, self.predicts = draft, placement, False
        self.items: list[Item] = []

    def fresh(self) -> list[Item]:
        """The items anew: an estimate marks its own with their share of the peak."""
        return [copy(item) for item in self.items]
