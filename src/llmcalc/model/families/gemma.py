"""Gemma 1: Llama's layers with head width of its own; embeddings tied."""

from llmcalc.model.families.llama import block

__all__ = ["block"]
