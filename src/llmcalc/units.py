"""Bytes, counts and token lengths: text in, exact integers inside, text out.

Inside the program bytes and tokens are integers. Suffixes exist only at the edge:
parameters and token budgets are decimal (``13b`` is 13e9), lengths are binary
(``8k`` is 8,192), sizes are taken as written (``24GiB`` is 24 x 2^30, ``24GB`` is 24e9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.errors import InputError

if TYPE_CHECKING:
    from fractions import Fraction

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
GB = 10**9

DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12, "q": 10**15}
BINARY = {"": 1, "k": KIB, "m": MIB}
BYTES = {
    "b": 1, "": 1,
    "kb": 10**3, "mb": 10**6, "gb": GB, "tb": 10**12,
    "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB,
    "k": KIB, "m": MIB, "g": GIB, "t": TIB,
}  # fmt: skip
DISPLAY = {"gib": ("GiB", GIB), "gb": ("GB", GB), "mib": ("MiB", MIB), "bytes": ("bytes", 1)}

FLOPS = {
    "": 1, "flop": 1, "flops": 1, "eflop": 10**18, "zflop": 10**21, "yflop": 10**24,
    "pf-days": 864 * 10**17, "pf-day": 864 * 10**17, "pfdays": 864 * 10**17, "pflops-days": 864 * 10**17,
}  # fmt: skip
MIN_FLOPS = 1e6  # no training: a thousand tokens on some hundred parameters
MAX_FLOPS = 1e32  # a million times the largest training run published

MAX_COUNT = 10**18  # a million times the largest model published
MAX_TOKENS = 10**12
MAX_DIGITS = 60


def parse_decimal(text: str) -> tuple[int, int] | None:
    """Read a plain decimal exactly, as numerator and denominator; None if it is not one.

    Examples
    --------
    >>> parse_decimal("7.24e9"), parse_decimal("4.5"), parse_decimal("13x")
    ((7240000000, 1), (45, 10), None)
    """
    body, _, power = text.strip().lower().replace("_", "").partition("e")
    whole, _, fraction = body.partition(".")
    if "," in whole:  # only as a thousands separator: 4096,8192 is a list, not a number
        lead, *groups = whole.lstrip("+-").split(",")
        if not 1 <= len(lead) <= 3 or any(len(group) != 3 for group in groups):
            return None
        whole = whole.replace(",", "")
    sign = -1 if whole[:1] == "-" else 1
    digits = whole[1:] if whole[:1] in ("+", "-") else whole
    digits += fraction
    if not (digits.isascii() and digits.isdigit()) or len(digits) > MAX_DIGITS:
        return None
    if "e" in text.lower():
        bare = power[1:] if power[:1] in ("+", "-") else power
        if not (bare.isascii() and bare.isdigit()):
            return None
        # An absurd exponent needs no absurd integer: anything above 10^60 is refused later.
        exponent = max(-MAX_DIGITS, min(MAX_DIGITS, int(bare[:6]) * (-1 if power[:1] == "-" else 1)))
    else:
        exponent = 0
    exponent -= len(fraction)
    numerator = sign * int(digits)
    return (numerator * 10**exponent, 1) if exponent >= 0 else (numerator, 10**-exponent)


def _split(text: str, suffixes: dict[str, int]) -> tuple[int, int] | None:
    """Read number and suffix; the value as numerator and denominator."""
    folded = text.strip().lower().replace(" ", "")
    for suffix in sorted(suffixes, key=len, reverse=True):
        if suffix and not folded.endswith(suffix):
            continue
        value = parse_decimal(folded[: len(folded) - len(suffix)])
        if value is not None:
            return value[0] * suffixes[suffix], value[1]
    return None


def shown(value: Any) -> str:
    """A value as it was given, cut where it is long.

    Examples
    --------
    >>> shown("13x")
    "'13x'"
    """
    text = repr(value) if isinstance(value, str) else _text(value)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1] if isinstance(value, str) else ''}"


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # an int of more digits than Python prints
        return f"a number of {value.bit_length():,} bits"


def _from_number(value: Any, what: str, remedy: str) -> tuple[int, int]:
    """Take a Python or numpy number as an exact ratio."""
    try:
        ratio = value.as_integer_ratio() if hasattr(value, "as_integer_ratio") else (int(value), 1)
    except (OverflowError, ValueError, TypeError):
        raise InputError(f"{what} is {shown(value)}, which is not a finite number.", remedy) from None
    return int(ratio[0]), int(ratio[1])


def parse_whole(value: Any, what: str, suffixes: dict[str, int], example: str, most: int) -> int:
    """Read a positive whole number with a suffix.

    Parameters
    ----------
    value : str or number
        What was given.
    what : str
        Its name in an error, for example ``--context``.
    suffixes : dict
        Allowed suffixes and their factors.
    example : str
        Spellings to show in the remedy.
    most : int
        The largest value that makes sense.

    Returns
    -------
    int
        The value. [-]

    Raises
    ------
    InputError
        If it is no number, not whole, below 1 or above `most`.
    """
    remedy = f"Use a whole number such as {example}."
    if isinstance(value, bool):
        raise InputError(f"{what} is {value}, which is not a number.", remedy)
    if isinstance(value, str):
        parsed = _split(value, suffixes)
        if parsed is None:
            raise InputError(f"{what} is {shown(value)}, which is not a number.", remedy)
        numerator, denominator = parsed
    else:
        numerator, denominator = _from_number(value, what, remedy)
    text = shown(value)
    if numerator <= 0:
        raise InputError(f"{what} is {text}; it must be above 0.", remedy)
    if numerator % denominator:
        raise InputError(f"{what} is {text}, which is not a whole number.", remedy)
    number = numerator // denominator
    if number > most:
        raise InputError(f"{what} is {text}, above the largest that makes sense ({most:,}).", remedy)
    return number


def parse_count(value: Any, what: str = "--params") -> int:
    """Read a number of parameters (or a token budget): decimal suffixes k, m, b, t.

    Examples
    --------
    >>> parse_count("13b"), parse_count("7.24e9"), parse_count("405B")
    (13000000000, 7240000000, 405000000000)
    """
    return parse_whole(value, what, DECIMAL, "13b, 405B or 7.24e9", MAX_COUNT)


def parse_length(value: Any, what: str = "--context") -> int:
    """Read a length in tokens: k is 1,024 and m is 1,024^2.

    Examples
    --------
    >>> parse_length("8k"), parse_length("1m"), parse_length(4096)
    (8192, 1048576, 4096)
    """
    return parse_whole(value, what, BINARY, "4096, 8k or 1m (k = 1024)", MAX_TOKENS)


def parse_max_model_len(value: Any) -> int:
    """Read a length as vLLM reads it: k is 1,000 and K is 1,024.

    Examples
    --------
    >>> parse_max_model_len("8k"), parse_max_model_len("8K")
    (8000, 8192)
    """
    what = "--max-model-len"
    suffixes = {"": 1, "k": 1000, "m": 10**6, "g": GB}
    if isinstance(value, str) and value.strip()[-1:] in ("K", "M", "G"):
        suffixes = {"": 1, "k": KIB, "m": MIB, "g": GIB}
    return parse_whole(value, what, suffixes, "8192, 8k (8,000) or 8K (8,192)", MAX_TOKENS)


def parse_integer(value: Any, what: str, most: int = 10**9) -> int:
    """Read a plain positive whole number.

    Examples
    --------
    >>> parse_integer("8", "--tp")
    8
    """
    return parse_whole(value, what, {"": 1}, "1, 2 or 8", most)


def parse_bytes(value: Any, what: str) -> int:
    """Read a size in bytes; a bare number is bytes, a bare G is GiB.

    Examples
    --------
    >>> parse_bytes("24GiB", "--reserve"), parse_bytes("24GB", "--reserve")
    (25769803776, 24000000000)
    """
    remedy = "Use a size such as 24GiB, 24GB or 24576MiB."
    if isinstance(value, bool):
        raise InputError(f"{what} is {value}, which is not a size.", remedy)
    if isinstance(value, str):
        parsed = _split(value, BYTES)
        if parsed is None:
            raise InputError(f"{what} is {shown(value)}, which is not a size.", remedy)
    else:
        parsed = _from_number(value, what, remedy)
    numerator, denominator = parsed
    if numerator < 0:
        raise InputError(f"{what} is {shown(value)}; a size can't be negative.", remedy)
    if numerator > 10**18 * denominator:
        raise InputError(
            f"{what} is {shown(value)}, above the largest that makes sense (10^18 bytes).", remedy
        )
    return numerator // denominator


def parse_real(
    value: Any, what: str, suffixes: dict[str, int], example: str, least: float, most: float, unit: str = ""
) -> float:
    """Read a number that need not be whole, with a suffix.

    Parameters
    ----------
    value : str or number
        What was given.
    what : str
        Its name in an error.
    suffixes : dict
        Allowed suffixes and their factors.
    example : str
        Spellings to show in the remedy.
    least, most : float
        Bounds that make sense.
    unit : str
        What the bounds are in, for an error.

    Returns
    -------
    float
        The value. [-]

    Raises
    ------
    InputError
        If it is no number, or outside the bounds.

    Examples
    --------
    >>> parse_real("5.76e23", "--compute", FLOPS, "1e21", 1e6, 1e32)
    5.76e+23
    """
    remedy = f"Use a number such as {example}."
    if isinstance(value, bool):
        raise InputError(f"{what} is {value}, which is not a number.", remedy)
    parsed = _split(value, suffixes) if isinstance(value, str) else _from_number(value, what, remedy)
    if parsed is None:
        raise InputError(f"{what} is {shown(value)}, which is not a number.", remedy)
    numerator, denominator = parsed
    if numerator <= 0:
        raise InputError(f"{what} is {shown(value)}; it must be above 0.", remedy)
    end = f"{least:.4g}" if numerator < least * denominator else f"{most:.4g}"
    if not least * denominator <= numerator <= most * denominator:
        word = "below the smallest" if numerator < least * denominator else "above the largest"
        raise InputError(f"{what} is {shown(value)}, {word} that makes sense ({end}{unit}).", remedy)
    return numerator / denominator


def parse_compute(value: Any, what: str = "--compute") -> float:
    """Read training compute in FLOP: plain, or in PF-days, EFLOP, ZFLOP, YFLOP.

    Examples
    --------
    >>> parse_compute("1e21"), parse_compute("5.76e23 FLOP"), parse_compute("2 PF-days")
    (1e+21, 5.76e+23, 1.728e+20)
    """
    return parse_real(value, what, FLOPS, "1e21, 5.76e23 or 3PF-days", MIN_FLOPS, MAX_FLOPS, " FLOP")


def parse_share(value: Any, what: str) -> float:
    """Read a share of 1: a percentage, or a number from 0 to 1.

    Examples
    --------
    >>> parse_share("40%", "--mfu"), parse_share(0.4, "--mfu")
    (0.4, 0.4)
    """
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.endswith("%"):
        return parse_real(text[:-1], what, {"": 1}, "40% or 0.4", 1e-4, 100, " %") / 100
    return parse_real(text, what, {"": 1}, "40% or 0.4", 1e-6, 1)


def parse_bits(value: Any, what: str = "--bits") -> int | Fraction:
    """Read bits per parameter: 0.01 to 64, fractions allowed.

    Examples
    --------
    >>> parse_bits("4"), parse_bits(4.5)
    (4, Fraction(9, 2))
    """
    remedy = "Use a number of bits from 0.01 to 64, such as 4, 8 or 16."
    if isinstance(value, bool):
        raise InputError(f"{what} is {value}, which is not a number.", remedy)
    if isinstance(value, str):
        parsed = parse_decimal(value)
        if parsed is None:
            raise InputError(f"{what} is {shown(value)}, which is not a number.", remedy)
    else:
        parsed = _from_number(value, what, remedy)
    numerator, denominator = parsed
    if numerator * 100 < denominator or numerator > 64 * denominator:
        raise InputError(f"{what} is {shown(value)}; no format stores a parameter in that many bits.", remedy)
    return whole_or_fraction(numerator, denominator)


def whole_or_fraction(numerator: int, denominator: int) -> int | Fraction:
    """Return an int where the ratio is whole, else a Fraction.

    Examples
    --------
    >>> whole_or_fraction(34, 32), whole_or_fraction(16, 8)
    (Fraction(17, 16), 2)
    """
    if numerator % denominator == 0:
        return numerator // denominator
    from fractions import Fraction  # a millisecond of start-up that whole numbers need not pay

    return Fraction(numerator, denominator)


def format_bytes(number: float, units: str = "gib", digits: int = 2) -> str:
    """Write bytes with their unit, never "GB" for 2^30.

    Examples
    --------
    >>> format_bytes(7_800_000_000), format_bytes(7_800_000_000, "gb")
    ('7.26 GiB', '7.80 GB')
    """
    label, factor = DISPLAY[units]
    if factor == 1:
        return f"{number:,.0f} {label}"
    return f"{number / factor:,.{digits}f} {label}"


def gib(number: int) -> str:
    """A size to type after an option: GiB with two decimals, never more than it is.

    Examples
    --------
    >>> gib(3 << 30), gib(2_000_000_000)
    ('3GiB', '1.86GiB')
    """
    return f"{number * 100 // GIB / 100:g}GiB"


def format_count(number: float) -> str:
    """Write a parameter count as people say it.

    Examples
    --------
    >>> format_count(13_000_000_000), format_count(8_030_261_248), format_count(124_439_808)
    ('13 B', '8.03 B', '124 M')
    """
    for factor, label in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= factor * 0.9995:  # 999.9 M is written 1 B
            value = number / factor
            text = f"{value:.2f}" if value < 100 else f"{value:.0f}"
            return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {label}"
    return f"{number:g}"
