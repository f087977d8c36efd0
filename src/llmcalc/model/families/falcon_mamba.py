"""Falcon Mamba: Mamba 1 with norms on step, B and C that have no weights."""

from llmcalc.model.families.mamba import CHECK, NAMES, PREFIX, block, head, split

__all__ = ["CHECK", "NAMES", "PREFIX", "block", "head", "split"]
