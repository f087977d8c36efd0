"""llmcalc: memory and VRAM capacity planner and scaling-law calculator for large language models.

>>> import llmcalc
>>> llmcalc.model("llama-3.1-8b").params
8030261248
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc._version import __version__

if TYPE_CHECKING:
    from llmcalc.api import model, params, vram
    from llmcalc.api.compare import compare
    from llmcalc.api.fit import fit
    from llmcalc.api.laws import chinchilla, hparams, law, laws
    from llmcalc.api.layouts import layouts
    from llmcalc.api.quant import quant
    from llmcalc.api.serve import serve_command
    from llmcalc.api.train import train
    from llmcalc.api.validation import validate
    from llmcalc.errors import LlmcalcError

__all__ = [
    "LlmcalcError",
    "__version__",
    "chinchilla",
    "compare",
    "fit",
    "hparams",
    "law",
    "laws",
    "layouts",
    "model",
    "params",
    "quant",
    "serve_command",
    "train",
    "validate",
    "vram",
]

_HOME = {
    **dict.fromkeys(("model", "params", "vram"), "llmcalc.api"),
    "chinchilla": "llmcalc.api.laws",
    "compare": "llmcalc.api.compare",
    "fit": "llmcalc.api.fit",
    "layouts": "llmcalc.api.layouts",
    "hparams": "llmcalc.api.laws",
    "law": "llmcalc.api.laws",
    "laws": "llmcalc.api.laws",
    "quant": "llmcalc.api.quant",
    "serve_command": "llmcalc.api.serve",
    "train": "llmcalc.api.train",
    "validate": "llmcalc.api.validation",
    "LlmcalcError": "llmcalc.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name (or a submodule) when it is first used."""
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted(__all__)
