"""What llama-server chose: options, and how many layers each device got."""

from __future__ import annotations

from typing import Any


class Share:
    """Layers of one device.

    Attributes
    ----------
    layers, partial : int
        How many, and how many of them without some of their tensors. [-]
    kept : str
        What the first of the partial layers keeps, a key of `SPILLS`.
    """

    __slots__ = ("kept", "layers", "partial")

    def __init__(self, layers: int = 0, partial: int = 0, kept: str = "experts") -> None:
        self.layers, self.partial, self.kept = layers, partial, kept

    @property
    def whole(self) -> int:
        """Layers with all their tensors. [-]"""
        return self.layers - self.partial


class Fitted:
    """What was chosen.

    Attributes
    ----------
    options : LlamaOptions
        As llama-server runs: `n_ctx`, `gpu_layers`, `split` and `overrides` are set.
    used : list of int
        Bytes on each device. [B]
    targets : list of int
        What each device may hold. [B]
    shares : list of Share
        Layers of each device; empty where all of them fit.
    whole_context : int
        Context that was wished for, over all slots. [tokens]
    bare : list of int
        Bytes on each device without a layer; empty where no layers were shared out. [B]
    is_pipeline : bool
        Whether several devices hold all layers whole: llama.cpp then keeps copies of what crosses them.
    refused : str
        Why layers were left alone though they do not fit; empty otherwise.
    """

    __slots__ = (
        "bare", "is_pipeline", "options", "refused", "shares", "targets", "used", "whole_context",
    )  # fmt: skip

    def __init__(self, options: Any, used: list[int], targets: list[int], whole_context: int) -> None:
        self.options, self.used, self.targets = options, used, targets
        self.shares: list[Share] = []
        self.bare: list[int] = []
        self.is_pipeline = False
        self.whole_context = whole_context
        self.refused = ""

    @property
    def fits(self) -> bool:
        """Whether each device is left with what it shall keep free."""
        return not any(self.missing)

    @property
    def missing(self) -> list[int]:
        """What each device is short of what it shall keep free. [B]"""
        return [max(0, used - target) for used, target in zip(self.used, self.targets, strict=True)]
