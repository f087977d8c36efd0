"""Qwen2.5-VL, the text model: Qwen2's layers."""

from llmcalc.model.families.qwen2 import block

__all__ = ["block"]
