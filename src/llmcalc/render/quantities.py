"""Numbers with units as people read them."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import is_array
from llmcalc.units import format_bytes

PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SCALED = ("FLOP/token", "FLOP/s", "FLOP/s/GPU", "B/s", "W")
"""Units that take a prefix."""

SYMBOLS = {"USD": "$", "EUR": "EUR ", "GBP": "GBP "}


def quantity(value: Any, unit: str, units: str = "gib") -> str:
    """A number and its unit; the span of an array.

    Examples
    --------
    >>> quantity(3.14e23, "FLOP"), quantity(5.147e10, "FLOP/token"), quantity(0.4123, "%")
    ('3.14e23 FLOP', '51.47 GFLOP/token', '41.2 %')
    >>> quantity(1_720_320, "GPU-h"), quantity(3_440_640, "USD"), quantity(0.0123, "USD")
    ('1,720,320 GPU-h', '$3,440,640', '$0.0123')
    """
    if value is None:
        return "-"
    if is_array(value):
        return f"{quantity(value.min(), unit, units)} to {quantity(value.max(), unit, units)}"
    if unit == "B":
        return _size(value, units)
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "FLOP":
        return f"{exponent(value)} FLOP" if value >= 1e15 else _scaled(value, unit)
    if unit in SCALED:
        return _scaled(value, unit)
    if unit in SYMBOLS or unit.split("/")[0] in SYMBOLS:
        money, _, per = unit.partition("/")
        return f"{SYMBOLS[money]}{number(value, cents=True)}" + (f" / {per}" if per else "")
    return f"{number(value)} {unit}".rstrip()


def exponent(value: float) -> str:
    """Three digits and a power of ten.

    Examples
    --------
    >>> exponent(3.1447e23), exponent(0)
    ('3.14e23', '0')
    """
    if not value:
        return "0"
    mantissa, _, power = f"{float(value):.2e}".partition("e")
    return f"{mantissa}e{int(power)}"


def _scaled(value: float, unit: str) -> str:
    for factor, prefix in PREFIXES:
        if abs(value) >= factor:
            return f"{number(value / factor)} {prefix}{unit}"
    return f"{number(value)} {unit}"


def _size(value: float, units: str) -> str:
    if units == "gib" and 0 < value < 1e7:
        return format_bytes(value, "mib")
    if units == "gib" and value >= 1e15:
        return f"{value / 2**40:,.0f} TiB"
    return format_bytes(value, units)


def number(value: float, cents: bool = False) -> str:
    """A number with as many digits as tell something.

    Examples
    --------
    >>> number(1234567.8), number(12.345), number(0.012345), number(300)
    ('1,234,568', '12.35', '0.0123', '300')
    """
    size = abs(value)
    if value == int(value) and size < 1e15 and not cents:
        return f"{int(value):,}"
    if size >= 1e15:
        return exponent(value)
    if size >= 1000 or (cents and value == int(value)):
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}" if not cents else f"{value:.2f}"
    if cents and size >= 0.1:
        return f"{value:.2f}"
    if size >= 10:
        return f"{value:.2f}" if size < 100 and float(f"{value:.1f}") != value else f"{value:.1f}"
    return f"{value:.3g}"
