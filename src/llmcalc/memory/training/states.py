"""Recurrent layers."""

from __future__ import annotations

from llmcalc.memory.training.context import Run
from llmcalc.memory.training.tape import Value


def scan(run: Run, x: Value) -> Value:
    """From the normed input to the output projection."""
    raise NotImplementedError
