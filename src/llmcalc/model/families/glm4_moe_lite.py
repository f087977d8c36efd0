"""GLM 4.7 Flash: DeepSeek V3's layers."""

from llmcalc.model.families.deepseek_v3 import block, mtp

__all__ = ["block", "mtp"]
