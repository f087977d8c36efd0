"""Lists of module names in configurations: what is quantized, what is left alone.

Each method matches names in its own way; together they come to four: the name itself or a run of its
parts (``lm_head``, ``mlp.gate``), a glob, a regular expression after ``re:``, the class ``Linear``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Any

from llmcalc.errors import ConfigError

OTHERS = ("vision", "visual", "audio", "mtp", "embed_vision", "multi_modal", "image")
"""Words before the layers that tell a tower from the language model."""


ONE_EXPERT = re.compile(r"experts\\?\.[\d\\(\[?]")
"""A name or pattern with the number of an expert, or what stands for some of them."""


def tail(name: str) -> str:
    """A name from its layers on: what stands before them differs between versions of one model."""
    at = name.find("layers.")
    if at < 0 or any(word in name[:at] for word in OTHERS):
        return name.removeprefix("model.")
    return name[at:]


class Patterns:
    """A list of names and patterns.

    Parameters
    ----------
    stated : iterable of str
        As the configuration has them.
    label : str
        The key they stand under, for errors.

    Examples
    --------
    >>> ignored = Patterns(["lm_head", "re:.*self_attn.*", "model.layers.0*", "mlp.gate"], "ignore")
    >>> ["model.layers.7.mlp.gate" in ignored, "model.layers.7.mlp.gate_proj" in ignored]
    [True, False]
    """

    __slots__ = ("expressions", "label", "lengths", "names", "tails", "used")

    def __init__(self, stated: Any, label: str) -> None:
        self.label, self.names, self.expressions = label, set[str](), dict[str, re.Pattern[str]]()
        self.used: set[str] = set()
        self.tails: dict[str, str] = {}
        self.lengths: set[int] = set()
        if stated is None:
            return
        if isinstance(stated, str):
            stated = [stated]
        if not isinstance(stated, Iterable) or not all(isinstance(one, str) for one in stated):
            raise ConfigError(f"{label} is not a list of names.", "Write it as a list of module names.")
        for one in stated:
            if one.startswith("re:"):
                self.expressions[one] = compiled(one[3:], label)
            elif any(mark in one for mark in "*?["):
                whole = translate(tail(one))
                self.expressions[one] = compiled(f"{whole}|{translate(tail(one) + '.*')}", label)
            else:
                self.names.add(one)
                self.tails[tail(one)] = one
                self.lengths.add(one.count(".") + 1)

    def __contains__(self, name: str) -> bool:
        short, found = tail(name), False
        for whole in {name, short} if self.names else ():
            parts = whole.split(".")
            for length in self.lengths:
                for start in range(len(parts) - length + 1):
                    run = ".".join(parts[start : start + length])
                    if run in self.names:
                        self.used.add(run)
                        found = True
        if not found and self.tails:
            parts = short.split(".")
            for end in range(1, len(parts) + 1):
                one = self.tails.get(".".join(parts[:end]))
                if one is not None:
                    self.used.add(one)
                    found = True
        for one, expression in self.expressions.items():
            if expression.match(name) or expression.match(short):
                self.used.add(one)
                found = True
        return found

    def __bool__(self) -> bool:
        return bool(self.names or self.expressions)

    @property
    def single(self) -> bool:
        """Whether some of them tell one expert from another."""
        return any(ONE_EXPERT.search(one) for one in (*self.names, *self.expressions))

    @property
    def unused(self) -> list[str]:
        """Those that have matched nothing so far."""
        return sorted({*self.names, *self.expressions} - self.used)


class Names:
    """Modules by their own names, wherever in a larger model they stand.

    Examples
    --------
    >>> Names(["language_model.model.layers.3.mlp.up_proj"]).find("model.layers.3.mlp.up_proj")
    'language_model.model.layers.3.mlp.up_proj'
    """

    __slots__ = ("stated", "used")

    def __init__(self, stated: Iterable[str]) -> None:
        self.stated = {_inner(one): one for one in stated}
        self.used: set[str] = set()

    def find(self, *names: str) -> str | None:
        """The stated name of a module that has one of these names."""
        found = [self.stated[inner] for inner in map(_inner, names) if inner in self.stated]
        self.used.update(found)
        return found[0] if found else None

    def __bool__(self) -> bool:
        return bool(self.stated)

    @property
    def single(self) -> bool:
        """Whether some of them tell one expert from another."""
        return any(ONE_EXPERT.search(one) for one in self.stated)

    @property
    def unused(self) -> list[str]:
        """Those that have matched nothing so far."""
        return sorted({*self.stated.values()} - self.used)


def _inner(name: str) -> str:
    return tail(name).removeprefix("language_model.").removeprefix("model.")


def compiled(expression: str, label: str) -> re.Pattern[str]:
    """A regular expression of a configuration."""
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{label}: {expression[:60]!r} is no regular expression: {error}.", "Correct the pattern."
        ) from None
