"""Models that lie on the same GPUs at once: several by name, or the members of an ensemble."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError, one_of
from llmcalc.formula import is_array
from llmcalc.units import parse_integer, shown

SHARES = {
    "vllm": "gpu_memory_utilization", "sglang": "mem_fraction_static",
    "tensorrt-llm": "free_gpu_memory_fraction",
}  # fmt: skip
"""Engines of which each model is a server of its own, and the share of the GPU that each is given."""

ENGINES = ("none", *SHARES)
MOST = 64


class Company:
    """Who else is resident.

    Attributes
    ----------
    others : list of (Any, str or None)
        Models and the scheme of each, where one is named.
    members : int
        Members of an ensemble, the model itself included. [-]
    """

    __slots__ = ("members", "others")

    def __init__(self, others: list[tuple[Any, str | None]], members: int) -> None:
        self.others, self.members = others, members


def company_of(engine: str, given: dict[str, Any]) -> Company | None:
    """Read ``--with`` and ``--ensemble``; None where there is neither.

    Examples
    --------
    >>> company_of("none", {"with_models": "qwen3-0.6b@int8, bge-m3"}).others
    [('qwen3-0.6b', 'int8'), ('bge-m3', None)]
    """
    value, members = given.get("with_models"), given.get("ensemble")
    many = 1 if members is None else parse_integer(members, "--ensemble", MOST)
    others = [] if value is None else _named(value)
    if not others and many == 1:
        return None
    if engine not in ENGINES:
        raise InputError(
            f"Several models at once are not modelled for {engine}.",
            f"Use --engine {one_of(ENGINES)}, or --reserve for what the others take.",
        )
    for keyword in ("gpu_memory_utilization", SHARES.get(engine, "")):
        if given.get(keyword) is not None:
            raise InputError(
                f"--{keyword.replace('_', '-')} is one server's; with several each needs its own.",
                "Leave it out: the share of each is told.",
            )
    return Company(others, many)


def _named(value: Any) -> list[tuple[Any, str | None]]:
    words = list(value) if is_array(value) else [value]
    found: list[tuple[Any, str | None]] = []
    for word in words:
        if not isinstance(word, str):
            found.append((word, None))
            continue
        for part in word.split(","):
            name, _, scheme = part.strip().partition("@")
            if not name.strip():
                raise InputError(
                    f"--with is {shown(word)}, which names no model.", "Write --with MODEL,MODEL."
                )
            found.append((name.strip(), scheme.strip() or None))
    if len(found) >= MOST:
        raise InputError(f"--with names {len(found)} models.", f"Name fewer than {MOST}.")
    return found
