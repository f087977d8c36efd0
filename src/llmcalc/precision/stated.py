"""What the readers of stated quantizations share: numbers, lists of names, a scheme with exceptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from llmcalc.errors import ConfigError
from llmcalc.precision.checks import trouble
from llmcalc.precision.patterns import Patterns, doubtful
from llmcalc.precision.scheme import Module, Scheme

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog

Stated = Mapping[str, Any]
Choice = tuple[str, dict[str, Any]]


class Listed(Protocol):
    """Names or patterns of a configuration, which must all be accounted for."""

    def __len__(self) -> int: ...

    @property
    def single(self) -> bool:
        """Whether some of them tell one expert from another."""

    @property
    def unused(self) -> list[str]:
        """Those that have matched nothing so far."""


IGNORED = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules",
           "skip_modules", "linear_weights_not_to_quantize")  # fmt: skip
"""Keys under which methods list what they leave alone."""


def left_alone(module: Module) -> bool:
    """What quantized checkpoints keep in 16 bit without saying so."""
    return module.component == "mtp" and module.role == "projection"


def integer_of(stated: Stated, *keys: str, default: int | None = None) -> int | None:
    """A whole number under one of several keys; all that are there must agree."""
    found: dict[str, int] = {}
    for key in keys:
        value = stated.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= 1 << 20:
            raise ConfigError(f"quantization: {key} is {str(value)[:40]!r}.", "Use a whole number.")
        found[key] = value
    if len(set(found.values())) > 1:
        told = " and ".join(f"{key} {value}" for key, value in found.items())
        raise ConfigError(f"quantization states {told}.", "Keep one of them.")
    return next(iter(found.values()), default)


def flag_of(stated: Stated, *keys: str, default: bool = False) -> bool:
    """True or false under the first of several keys that is there."""
    for key in keys:
        value = stated.get(key)
        if value is not None:
            if not isinstance(value, bool):
                raise ConfigError(f"quantization: {key} is {str(value)[:40]!r}.", "Use true or false.")
            return value
    return default


def object_of(stated: Stated, key: str, what: str) -> Stated:
    """The object under a key."""
    value = stated[key]
    if not isinstance(value, dict):
        raise ConfigError(
            f"quantization: {key} is {str(value)[:40]!r}, not an object.", f"Write it as {{{what}}}."
        )
    return value


def checked(choice: Choice, where: str = "quantization") -> Choice:
    """A packer and its options, or what it can't do of them."""
    found = trouble(*choice)
    if found is not None:
        problem, remedy = found
        method = {"pack_quantized": "compressed-tensors"}.get(choice[0], choice[0])
        raise ConfigError(f"{where}: {method} has no {problem}.", remedy)
    return choice


def patterns_of(stated: Stated) -> Patterns:
    """All that a configuration leaves alone, whatever its method calls the list."""
    listed: list[str] = []
    for key in IGNORED:
        value = stated.get(key)
        if value is not None:
            Patterns(value, f"quantization: {key}")
            listed += [value] if isinstance(value, str) else list(value)
    return Patterns(listed, "quantization")


def finished(name: str, choose: Callable[[Module], Choice | None], like: Scheme, *patterns: Listed) -> Scheme:
    """A scheme with the name and source of another, and the lists it must account for."""
    by_layer = any(map(len, patterns)) or not patterns
    scheme = Scheme(name, choose, by_layer=by_layer, grade=like.grade, source=like.source)
    scheme.entry, scheme.parts, scheme.skips = like.entry, like.parts, like.skips
    scheme.single = any(listed.single for listed in patterns)
    scheme.unmatched = lambda: [one for listed in patterns for one in doubtful(listed.unused, len(listed))]
    return scheme


def entry_of(catalog: Catalog, name: str) -> dict[str, Any]:
    """An entry of the shipped catalog of schemes, which is there."""
    found = catalog.lookup("schemes", name)
    assert found is not None, name
    return found
