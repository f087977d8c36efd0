"""Settings of single modules: GPTQModel's ``dynamic``, AutoRound's ``extra_config``, what is quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcalc.errors import ConfigError
from llmcalc.precision.patterns import MOST_NAMES, MOST_PATTERNS, ONE_EXPERT, Names, Patterns, compiled
from llmcalc.precision.stated import Stated, integer_of

SKIP: dict[str, Any] = {}
"""What stands for a module that is left alone."""


class Overrides:
    """What a configuration says of single modules, the first rule that fits.

    Parameters
    ----------
    stated : mapping
        The configuration's quantization.

    Examples
    --------
    >>> own = Overrides({"dynamic": {"-:.*mlp.*": {}, "+:.*q_proj": {"bits": 8}}})
    >>> own.find("model.layers.0.self_attn.q_proj"), own.find("model.layers.0.mlp.up_proj") is SKIP
    ({'bits': 8}, True)
    """

    __slots__ = ("inside", "named", "names", "rules", "used")

    def __init__(self, stated: Stated) -> None:
        self.rules: list[tuple[str, Any, dict[str, Any]]] = []
        self.used: set[str] = set()
        for key, value in _mapping(stated, "dynamic").items():
            skip = key.startswith("-:")
            expression = compiled(key.removeprefix("-:").removeprefix("+:"), "quantization: dynamic")
            self.rules.append((key, expression, SKIP if skip else _own(value, key)))
        extra = _mapping(stated, "extra_config")
        self.names = {name: _own(value, name) for name, value in extra.items()}
        self.named = Names(self.names)
        for key, own in self.names.items():
            if any(mark in key for mark in "*+?[]()|^$\\"):
                self.rules.append((key, compiled(key, "quantization: extra_config"), own))
        if len(self.rules) > MOST_PATTERNS:
            raise ConfigError(
                f"quantization: dynamic and extra_config have {len(self.rules):,} expressions.",
                f"Shorten them to {MOST_PATTERNS:,} or fewer: join them with |.",
            )
        inside = stated.get("modules_in_block_to_quantize")
        self.inside = None if inside is None else Patterns(_flat(inside), "modules_in_block_to_quantize")

    def find(self, name: str) -> dict[str, Any] | None:
        """Settings of a module, `SKIP` where it is left alone; None where nothing is said of it."""
        if self.inside is not None and name not in self.inside:
            return SKIP
        stated = self.named.find(name)
        if stated is not None:
            return self.names[stated]
        for key, expression, own in self.rules:
            if expression.match(name):
                self.used.add(key)
                return own
        return None

    def __len__(self) -> int:
        return len(self.rules) + len(self.names) + (0 if self.inside is None else len(self.inside))

    @property
    def single(self) -> bool:
        """Whether some of them tell one expert from another."""
        own = any(ONE_EXPERT.search(key) for key, _, _ in self.rules)
        return own or self.named.single or (self.inside is not None and self.inside.single)

    @property
    def unused(self) -> list[str]:
        """Those that have matched nothing so far."""
        inside = [] if self.inside is None else self.inside.unused
        keys = {*self.named.unused, *(key for key, _, _ in self.rules)} - self.used
        return sorted({*keys, *inside})


def _mapping(stated: Stated, key: str) -> dict[str, Any]:
    value = stated.get(key)
    if value is None or value is False:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"quantization: {key} does not name modules.", "Write it as names with settings.")
    if len(value) > MOST_NAMES or (key == "dynamic" and len(value) > MOST_PATTERNS):
        raise ConfigError(
            f"quantization: {key} has {len(value):,} entries.",
            f"Shorten it to {MOST_PATTERNS if key == 'dynamic' else MOST_NAMES:,} or fewer.",
        )
    return dict(value)


def _own(value: Any, name: str) -> dict[str, Any]:
    """Bits and group of one entry; 16 bits and more are none."""
    if value is False or value is None:
        return SKIP
    if not isinstance(value, Mapping):
        raise ConfigError(f"quantization: {name[:60]!r} has no settings.", 'Write {"bits": 8}.')
    found = {"bits": integer_of(value, "bits"), "group": integer_of(value, "group_size")}
    if (found["bits"] or 0) >= 16:
        return SKIP
    return {key: number for key, number in found.items() if number is not None} or {"bits": None}


def _flat(listed: Any) -> Any:
    """Names of a list of lists."""
    if not isinstance(listed, (list, tuple)):
        return listed
    return [name for one in listed for name in (one if isinstance(one, (list, tuple)) else [one])]
