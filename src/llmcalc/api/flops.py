"""`llmcalc.flops`: operations of a model, and what publications count."""

from llmcalc.answer.flops.ask import flops

__all__ = ["flops"]
