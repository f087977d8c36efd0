"""IQuest-Coder: Llama's layers."""

from llmcalc.model.families.llama import block

__all__ = ["block"]
