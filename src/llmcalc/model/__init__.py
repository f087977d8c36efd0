"""What a model is: the inventory, the layer builders, the families and the readers.

`llmcalc.model` is also the public function that reads one, so the package can be called:
``llmcalc.model("llama-3.1-8b")`` is `llmcalc.api.model`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A package that reads a model when it is called."""

    def __call__(self, source: Any, *, assume: str | None = None, catalog: Any = None) -> Any:
        """Read a model; see `llmcalc.api.model`."""
        from llmcalc.api import model

        return model(source, assume=assume, catalog=catalog)


sys.modules[__name__].__class__ = _CallableModule
