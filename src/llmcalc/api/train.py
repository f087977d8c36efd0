"""`llmcalc.train`: memory of training and fine-tuning.

The function stands in `llmcalc.answer.training.ask`: the command line asks it there, so that an answer about
training need not load what answers about inference.
"""

from llmcalc.answer.training.ask import train

__all__ = ["train"]
