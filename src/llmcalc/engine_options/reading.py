"""How values of engine options are read, whatever the engine."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError, Problems
from llmcalc.units import parse_decimal, parse_length, shown

PRE_RELEASES = ("dev", "main", "nightly", "latest")
"""What stands for a build that is not released yet."""

MAX_BATCH_TOKENS = 1 << 24
"""The longest single pass that is modelled: more than any model takes. [tokens]"""

YES, NO = ("true", "yes", "on", "1", "auto", "enabled"), ("false", "no", "off", "0", "disabled")


def flag(value: Any, what: str) -> bool:
    """Read a switch: True, ``on``, ``off``, ``auto`` ..."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in YES or word in NO:
        return word in YES
    raise InputError(f"{what} is {shown(value)}.", f"Use {what} on or {what} off.")


def share(value: Any, what: str, program: str) -> tuple[int, int]:
    """A share above 0 and up to 1, exactly, as numerator and denominator.

    Examples
    --------
    >>> share("0.95", "--gpu-memory-utilization", "vLLM")
    (95, 100)
    """
    parsed = parse_decimal(value if isinstance(value, str) else str(value))
    if parsed is None or parsed[0] <= 0 or parsed[0] > parsed[1]:
        raise InputError(
            f"{what} is {shown(value)}; {program} takes a share above 0 and up to 1.", f"Use {what} 0.9."
        )
    return parsed


def batch_tokens(value: Any, what: str) -> int:
    """Tokens of one batch or chunk, as many as a pass can hold. [tokens]

    Examples
    --------
    >>> batch_tokens("8k", "--chunked-prefill-size")
    8192
    """
    tokens = parse_length(value, what)
    if tokens > MAX_BATCH_TOKENS:
        raise InputError(
            f"{what} is {tokens:,}; a batch of more than {MAX_BATCH_TOKENS:,} tokens is not modelled.",
            f"Use {what} 8192, or what your server is told.",
        )
    return tokens


def own_names(
    given: dict[str, Any], aliases: dict[str, str], problems: Problems
) -> tuple[dict[str, Any], dict[str, str]]:
    """What was given, under the engine's own names, and what the user called each.

    Examples
    --------
    >>> own_names({"max_num_seqs": 8, "page_size": None}, {"max_num_seqs": "max_batch_size"}, Problems())[1]
    {'max_num_seqs': '--max-num-seqs', 'max_batch_size': '--max-num-seqs'}
    """
    asked = {key: value for key, value in given.items() if value is not None and value is not False}
    called = {key: f"--{key.replace('_', '-')}" for key in asked}
    for other, own in aliases.items():
        if other not in asked:
            continue
        with problems:
            if own in asked:
                twice = f"{called[other]} and {called[own]} are given together."
                raise InputError(twice, "Keep one of them.")
            asked[own], called[own] = asked[other], called[other]
    return asked, called


def release(value: Any, program: str, example: str) -> tuple[int, ...]:
    """The numbers of a version, a post-release's last; three of them at least, the missing ones 0.

    Raises
    ------
    InputError
        If it is no version.

    Examples
    --------
    >>> release("v0.4.6.post5", "SGLang", "0.5.23"), release("1.2", "TensorRT-LLM", "1.2.0")
    ((0, 4, 6, 5), (1, 2, 0))
    """
    text = str(value).strip().lower().removeprefix("v").partition("+")[0]
    parts = [part.removeprefix("post") for part in text.split(".")]
    numbers: list[int] = []
    for part in parts[:4]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        if len(digits) > 6:
            numbers = []
            break
        numbers.append(int(digits))
    if not numbers:
        raise InputError(
            f"--engine-version {shown(value)} is no version of {program}.", f"Write it as {example}."
        )
    return tuple(numbers + [0] * (3 - len(numbers)))
