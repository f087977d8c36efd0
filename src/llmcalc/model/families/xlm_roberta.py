"""XLM-RoBERTa: RoBERTa in a hundred languages, with a vocabulary of 250,000."""

from llmcalc.model.families.roberta import block, describe

__all__ = ["block", "describe"]
