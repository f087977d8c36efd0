"""Ministral 3, the text model: Mistral's layers."""

from llmcalc.model.families.mistral import block

__all__ = ["block"]
