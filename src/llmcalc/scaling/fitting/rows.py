"""The runs that a law is fitted to, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmcalc.scaling.fitting.powers import Array


class Rows:
    """Runs: what was trained, for how long, and what loss it reached.

    Attributes
    ----------
    params, tokens, compute : ndarray or None
        Parameters, tokens seen, floating-point operations. [-], [tokens], [FLOP]
    losses : ndarray
        Loss of each run. [nats or bits per token or byte]
    unique : ndarray or None
        Tokens that differ. [tokens]
    experts : ndarray or None
        Experts of a layer; 1 for dense models. [-]
    spread : ndarray or None
        Standard error of the logarithm of the parameters, for weights. [-]
    runs : ndarray of int or None
        Which rows are of one training run.
    places : sequence of str
        Where each row stood: ``line 7``.
    factor : float
        FLOP of a parameter and token. [FLOP]
    """

    def __init__(
        self, losses: Array, params: Array | None = None, tokens: Array | None = None,
        compute: Array | None = None, unique: Array | None = None, experts: Array | None = None,
        spread: Array | None = None, runs: Any = None, places: Sequence[str] = (), factor: float = 6.0,
    ) -> None:  # fmt: skip
        self.losses, self.params, self.tokens, self.compute = losses, params, tokens, compute
        self.unique, self.experts, self.spread, self.runs = unique, experts, spread, runs
        self.places = list(places) or [f"row {place + 1}" for place in range(len(losses))]
        self.factor = factor

    def __len__(self) -> int:
        return len(self.losses)

    def take(self, chosen: Any) -> Rows:
        """Some of the rows: a mask or places."""
        places = np.arange(len(self))[chosen]
        arrays: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[places]
            for name in ("losses", "params", "tokens", "compute", "unique", "experts", "spread", "runs")
        }
        return Rows(**arrays, places=[self.places[place] for place in places], factor=self.factor)

    @property
    def flops(self) -> Array:
        """Compute as given, else factor x parameters x tokens. [FLOP]"""
        if self.compute is not None:
            return self.compute
        assert self.params is not None
        assert self.tokens is not None
        return self.factor * self.params * self.tokens
