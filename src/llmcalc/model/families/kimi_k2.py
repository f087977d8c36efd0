"""Kimi K2: DeepSeek V3's layers with more experts and fewer heads."""

from llmcalc.model.families.deepseek_v3 import block, mtp

__all__ = ["block", "mtp"]
