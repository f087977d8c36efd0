"""MiniMax-M3 as a flat text configuration."""

from llmcalc.model.families.minimax_m3_vl_text import NAMES, block

__all__ = ["NAMES", "block"]
