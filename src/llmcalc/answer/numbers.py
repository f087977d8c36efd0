"""Reading numbers of rates, shares and money: each with what is allowed and what to type instead."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError
from llmcalc.units import DECIMAL, parse_decimal, shown


def real(value: Any, option: str, example: str, zero: bool = False, most: float = 1e30) -> float:
    """A number above zero (or not below it), with a decimal suffix if it has one.

    Examples
    --------
    >>> real("1.5k", "--throughput", "2500"), real(2, "--price", "2.5")
    (1500.0, 2.0)
    """
    remedy = f"Use a number such as {example}."
    found: float | None = None
    if isinstance(value, str):
        folded = value.strip().lower().replace(" ", "")
        for suffix in sorted(DECIMAL, key=len, reverse=True):
            if suffix and not folded.endswith(suffix):
                continue
            ratio = parse_decimal(folded[: len(folded) - len(suffix)])
            if ratio is not None:
                found = ratio[0] * DECIMAL[suffix] / ratio[1]
                break
    elif not isinstance(value, bool):
        try:
            found = float(value)
        except (TypeError, ValueError, OverflowError):
            found = None
    if found is None or found != found or abs(found) == float("inf"):
        raise InputError(f"{option} is {shown(value)}, which is not a finite number.", remedy)
    if found < 0 or (not zero and not found):
        what = "can't be negative" if found < 0 else "must be above 0"
        raise InputError(f"{option} is {shown(value)}; it {what}.", remedy)
    if found > most:
        raise InputError(f"{option} is {shown(value)}, above the largest that makes sense.", remedy)
    return found


def share(value: Any, option: str, what: str, zero: bool = False) -> float:
    """A share from 0 to 1, or a percentage with its sign.

    Examples
    --------
    >>> share("40%", "--mfu", "MFU"), share(0.4, "--mfu", "MFU")
    (0.4, 0.4)

    From 2 on a number is likely a percentage without its sign, which the error then says; 1.2 is no 1.2 %.
    """
    percent = isinstance(value, str) and value.strip().endswith("%")
    found = real(value.strip()[:-1] if percent else value, option, "0.4 or 40%", zero)
    found = found / 100 if percent else found
    if found > 1:
        hint = f"Write {found:g}% or {found / 100:g}. " if not percent and 2 <= found <= 100 else ""
        raise InputError(
            f"{option} is {shown(value)}, above 1: {what} is a share of what there is.",
            f"{hint}Use a share above 0 and at most 1, such as 0.4 or 40%.",
        )
    return found


def word(value: Any, allowed: tuple[str, ...], option: str) -> str:
    """One word of a list, with the nearest in the error."""
    from llmcalc.errors import did_you_mean, one_of

    folded = str(value).strip().lower().replace("_", "-")
    if folded in allowed:
        return folded
    near = did_you_mean(folded, allowed, 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise InputError(f"{option} {shown(str(value))} is not known.", f"{hint}Use {one_of(allowed)}.")
