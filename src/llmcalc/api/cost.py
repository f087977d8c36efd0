"""`llmcalc.cost`: time, energy and price of a run."""

from llmcalc.answer.cost.ask import cost

__all__ = ["cost"]
