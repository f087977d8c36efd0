"""Nemotron 4 and Minitron: Jais 2's form, LayerNorms and an MLP of two matrices, without biases."""

from llmcalc.model.families.jais2 import block, head

__all__ = ["block", "head"]
