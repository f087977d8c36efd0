"""Granite 3 and 4 dense: Llama's layers; its multipliers scale values and store nothing."""

from llmcalc.model.families.llama import block

__all__ = ["block"]
