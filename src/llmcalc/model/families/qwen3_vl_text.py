"""Qwen3-VL, the text model: Qwen3's layers."""

from llmcalc.model.families.qwen3 import block

__all__ = ["block"]
