"""What a training step would ignore is refused: options of adapters without any."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError

ADAPTER_KEYS = ("lora_r", "lora_targets", "adapter_dtype", "lora_dropout", "rslora")
"""Keywords of adapters."""

BARE = ("full", "freeze", "prompt", "prefix")
"""Methods without adapters."""


def refuse_ignored(method: str, given: dict[str, Any]) -> None:
    """Refuse options that would do nothing.

    Raises
    ------
    InputError
        With the method that knows the option.
    """
    own = next((key for key in ADAPTER_KEYS if given[key] is not None and given[key] is not False), None)
    if own is not None and method in BARE:
        option = f"--{own.replace('_', '-')}"
        raise InputError(
            f"{option} is for adapters; --method {method} has none.",
            f"Add --method lora, or leave {option} out.",
        )
    if method == "qlora" and str(given["quant"] or "").lower() == "none":
        raise InputError("--method qlora without a quantized base is lora.", "Use --method lora.")
