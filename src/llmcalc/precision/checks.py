"""What each method can do: which numbers its options may have, and which of them contradict each other.

Names, configurations and catalogs of a user's own all pass here before anything is priced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmcalc.errors import one_of

LARGEST = 8192
"""No method is known to group more elements than this. [elements]"""

INTEGERS = (2, 3, 4, 5, 6, 7, 8)

MLX_MODES = {
    "affine": ((2, 3, 4, 5, 6, 8), (32, 64, 128)), "mxfp4": ((4,), (32,)), "nvfp4": ((4,), (16,)),
    "mxfp8": ((8,), (32,)),
}  # fmt: skip
"""Bits and groups of MLX's modes, as ``mlx.core.quantize`` takes them."""


def trouble(method: str, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a method can't do of some options: the problem and the remedy, or None.

    Parameters
    ----------
    method : str
        Its packer.
    options : mapping
        What the packer is to be called with.

    Examples
    --------
    >>> trouble("gptq", {"bits": 4, "group": 3})
    ('groups of 3', 'Use a multiple of 8 from 8 to 8192, or -1 for one group a row.')
    """
    rules = RULES.get(method, {})
    for key, value in options.items():
        rule = rules.get(key)
        allowed = rule(value) if rule is not None else None
        if allowed:
            return f"{_spoken(key, value)}", allowed
    return _mode(options) if method == "mlx" else None


def _spoken(key: str, value: Any) -> str:
    shown = str(value)[:40]
    return {"group": f"groups of {shown}", "bits": f"{shown} bits", "books": f"{shown} codebooks",
            "code": f"codes of {shown} bits", "head": f"head of {shown} bits",
            "block": f"blocks of {shown}", "mode": f"mode {shown!r}",
            }.get(key, f"{key} = {shown}")  # fmt: skip


Rule = Callable[[Any], str]
"""Takes a value; gives what is allowed instead, or nothing."""


def among(*values: Any) -> Rule:
    """One of some values."""

    def rule(value: Any) -> str:
        fitting = any(type(value) is type(one) and value == one for one in values)
        return "" if fitting else f"Use {one_of([str(one) for one in values])}."

    return rule


def between(low: int, high: int) -> Rule:
    """A number from one to another, fractions too."""

    def rule(value: Any) -> str:
        number = not isinstance(value, bool) and hasattr(value, "__float__")
        return "" if number and low <= value <= high else f"Use a number from {low} to {high}."

    return rule


def whole(low: int, high: int) -> Rule:
    """A whole number from one to another."""

    def rule(value: Any) -> str:
        return "" if type(value) is int and low <= value <= high else f"Use {low} to {high}."

    return rule


def grouped(value: Any) -> str:
    """A group along the columns: a multiple of 8, or one for each row."""
    fitting = type(value) is int and (value == -1 or (8 <= value <= LARGEST and value % 8 == 0))
    return "" if fitting else f"Use a multiple of 8 from 8 to {LARGEST}, or -1 for one group a row."


def blocks(value: Any) -> str:
    """Rows and columns of a block that shares a scale."""
    sides: list[Any] = list(value) if isinstance(value, (list, tuple)) else []
    fitting = len(sides) == 2 and all(
        type(side) is int and (side == 1 or (side % 8 == 0 and 8 <= side <= LARGEST)) for side in sides
    )
    if fitting and sides != [1, 1]:
        return ""
    return "Use two whole numbers, such as [128, 128]: multiples of 8, or 1 for one side."


def flag(value: Any) -> str:
    """True or false."""
    return "" if isinstance(value, bool) else "Use true or false."


RULES: dict[str, dict[str, Rule]] = {
    "aqlm": {"books": whole(1, 16), "code": whole(1, 16), "group": among(4, 8, 16, 32)},
    "awq": {"bits": among(4), "group": grouped, "zero_point": flag},
    "bitnet": {},
    "bitsandbytes4": {"kind": among("nf4", "fp4"), "double": flag,
                      "block": among(32, 64, 128, 256, 512, 1024, 2048, 4096), "nested": whole(1, LARGEST)},
    "eetq": {},
    "exl2": {"bits": between(2, 8), "head": whole(2, 8)},
    "exl3": {"bits": between(1, 8), "head": whole(1, 8)},
    "fp8": {"strategy": among("tensor", "channel", "block"), "block": blocks, "static": flag,
            "dialect": among("", "transformers", "compressed", "modelopt"),
            "scale": among("fp32", "bf16", "fp16", "e8m0")},
    "gpt_oss": {},
    "gptq": {"bits": among(*INTEGERS), "group": grouped, "index": flag},
    "hqq": {"bits": among(1, 2, 3, 4, 5, 6, 8), "group": grouped},
    "int4_awq": {"group": grouped, "static": flag},
    "int8_channel": {"static": flag, "scale": among("", "fp32", "bf16", "fp16")},
    "int8_rows": {},
    "mlx": {"bits": among(2, 3, 4, 5, 6, 8), "group": among(16, 32, 64, 128), "mode": among(*MLX_MODES)},
    "mx": {"bits": among(4, 6, 8)},
    "nvfp4": {"dialect": among("modelopt", "compressed"), "static": flag, "group": among(16)},
    "pack_quantized": {"bits": among(*INTEGERS), "group": grouped, "symmetric": flag, "order": flag},
    "quanto": {"bits": among(2, 4, 8), "group": among(32, 64, 96, 128), "number": among("int", "float")},
    "quip": {"bits": among(2, 3, 4)},
    "torchao": {"bits": among(4, 8), "group": among(32, 64, 128, 256), "number": among("int", "float")},
}  # fmt: skip
"""Rules of each packer's options."""


def _mode(options: Mapping[str, Any]) -> tuple[str, str] | None:
    """MLX's modes have bits and groups of their own."""
    mode = options.get("mode", "affine")
    widths, sizes = MLX_MODES[mode]
    for key, allowed in (("bits", widths), ("group", sizes)):
        value = options.get(key)
        if value is not None and value not in allowed:
            words = one_of([str(one) for one in allowed])
            what = f"{_spoken(key, value)} in mode {mode}" if mode != "affine" else _spoken(key, value)
            return what, f"Use {words}{' bits' if key == 'bits' else ''}."
    return None
