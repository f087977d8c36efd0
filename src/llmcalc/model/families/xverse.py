"""XVERSE: Llama's layers without biases."""

from llmcalc.model.families.llama import block

__all__ = ["block"]
