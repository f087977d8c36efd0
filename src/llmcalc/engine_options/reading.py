"""How values of engine options are read, whatever the engine."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError
from llmcalc.units import shown

YES, NO = ("true", "yes", "on", "1", "auto", "enabled"), ("false", "no", "off", "0", "disabled")


def flag(value: Any, what: str) -> bool:
    """Read a switch: True, ``on``, ``off``, ``auto`` ..."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in YES or word in NO:
        return word in YES
    raise InputError(f"{what} is {shown(value)}.", f"Use {what} on or {what} off.")
