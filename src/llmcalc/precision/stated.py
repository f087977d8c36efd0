"""What the readers of stated quantizations share: numbers, lists of names, a scheme with exceptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from llmcalc.errors import ConfigError
from llmcalc.precision.patterns import Patterns
from llmcalc.precision.scheme import Module, Scheme

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog

Stated = Mapping[str, Any]
Choice = tuple[str, dict[str, Any]]


class Listed(Protocol):
    """Names or patterns of a configuration, which must all be accounted for."""

    def __bool__(self) -> bool: ...

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
    """A whole number under the first of several keys that is there."""
    for key in keys:
        value = stated.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= 1 << 20:
            raise ConfigError(f"quantization: {key} is {str(value)[:40]!r}.", "Use a whole number.")
        return value
    return default


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
    by_layer = any(patterns) or not patterns
    scheme = Scheme(name, choose, by_layer=by_layer, grade=like.grade, source=like.source)
    scheme.entry = like.entry
    scheme.single = any(listed.single for listed in patterns)
    scheme.unmatched = lambda: [one for listed in patterns for one in listed.unused]
    return scheme


def entry_of(catalog: Catalog, name: str) -> dict[str, Any]:
    """An entry of the shipped catalog of schemes, which is there."""
    found = catalog.lookup("schemes", name)
    assert found is not None, name
    return found
