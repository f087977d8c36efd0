"""PyTorch's DistributedDataParallel: every rank holds all, and sums gradients in buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.estimate import add_up
from llmcalc.formula import Quantity
from llmcalc.memory.training.parallel.sharding import Part, Sharding


class DataParallel(Sharding):
    """DDP.

    Parameters
    ----------
    views : bool
        Whether gradients are views of the buckets (``gradient_as_bucket_view``); otherwise they are copied
        into them and back, and both are there.
    silent : bool
        Whether gradients are summed after the last micro-batch alone (``no_sync``): those of earlier ones are
        then tensors of their own, views or not.

    Notes
    -----
    Buckets are made when the model is wrapped, as wide as parameters are, and never freed
    (`torch/csrc/distributed/c10d/reducer.cpp`, PyTorch 2.13).
    """

    name = "DDP"

    def __init__(self, views: bool = False, silent: bool = True) -> None:
        super().__init__()
        self.views = self.persistent = views
        self.silent = silent

    def buckets(self, gradients: Quantity) -> Quantity:
        """As large as all gradients, unless these are views of them."""
        return 0 if self.views and not self.silent else gradients

    @property
    def left_standing(self) -> Quantity:
        """Gradients have become views when the last micro-batch is summed."""
        return 0 if self.views else super().left_standing

    def begin(self, question: Any, model: Any, stage: Any, parts: Sequence[Part]) -> None:
        """Buckets for the gradients of parameters, as wide as these are."""
        if question.asked.mesh.replicas == 1:
            self.persistent = False
            return
        if self.views and not (question.asked.accumulate > 1 and self.silent):
            return
        self.persistent = False
        buckets: Quantity = add_up(states.gradients for states, _ in parts)
        self.standing = {"buckets of gradients": buckets}
