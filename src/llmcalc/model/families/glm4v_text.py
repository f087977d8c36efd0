"""GLM 4.1V, the text model: GLM 4's layers with four norms."""

from llmcalc.model.families.glm4 import NAMES, block

__all__ = ["NAMES", "block"]
