"""DeepSeek V4 under the name that its reference code writes."""

from llmcalc.model.families.deepseek_v4 import NAMES, PREFIX, block, head, mtp

__all__ = ["NAMES", "PREFIX", "block", "head", "mtp"]
