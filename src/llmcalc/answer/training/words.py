"""Reading single settings: numbers or arrays, one word of a list, switches."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError, did_you_mean, one_of
from llmcalc.formula import Quantity, is_array
from llmcalc.units import parse_integer

MOST = 10**9


def array(value: Any, option: str, most: int) -> Quantity:
    """An array of whole numbers above 0."""
    from llmcalc.demand.context import array_of  # only arrays pay for it

    return array_of(value, option, most)


def number(value: Any, option: str) -> Quantity:
    """A whole number above 0, or an array of them."""
    return array(value, option, MOST) if is_array(value) else parse_integer(value, option, MOST)


SPELLINGS = {
    "flash_attention_2": "flash", "flash_attention": "flash", "fa2": "flash", "flash_attention_3": "flash3",
    "flash_attention_4": "flash3", "fa3": "flash3", "fa4": "flash3",
}  # fmt: skip
"""What frameworks call the same."""


def one_word(value: Any, allowed: tuple[str, ...], option: str) -> str:
    """One word of a list, with the nearest in the error."""
    word = str(value).strip().lower()
    word = SPELLINGS.get(word.replace("-", "_"), word)
    if word in allowed:
        return word
    near = did_you_mean(word, allowed, 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise InputError(f"{option} {word[:40]!r} is not known.", f"{hint}Use {one_of(allowed)}.")


def flag(value: Any, option: str) -> bool:
    """A switch: a bool, or on and off as words."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("on", "true", "yes", "1", "off", "false", "no", "0"):
        return word in ("on", "true", "yes", "1")
    raise InputError(f"{option} {word[:40]!r} is not known.", "Use on or off.")
