"""A configuration as a family reads it: checked sizes, class defaults, and a record of what was read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcalc.errors import ConfigError, Problems

MISSING: Any = object()
MAX_SIZE = 10**8
MAX_LAYERS = 10_000
LAYER_KEYS = ("num_hidden_layers",)

SYNONYMS: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "n_embed", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "seq_length"),
    "vocab_size": ("padded_vocab_size",),
}
"""Spellings that files use instead of, or beside, the usual key."""

CORE = ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "intermediate_size")
"""Sizes that every saved configuration states: never filled from a class default at the top level."""


class Config:
    """A read-only view of one configuration (or of one nested part of it).

    Attribute access gives a checked positive integer: ``c.hidden_size``. `num_key_value_heads` and
    `head_dim` follow the rules of transformers where the key is null or absent.

    Parameters
    ----------
    raw : mapping
        The configuration.
    label : str
        What to call it in errors.
    defaults : mapping
        Defaults of its class in transformers.
    renames : mapping
        The class's own spelling of common keys.
    nested : bool
        Whether it is a part of another configuration; only then may core sizes be defaults.
    trusted : bool
        Whether windows, patterns and the context are proven.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        label: str,
        defaults: Mapping[str, Any] | None = None,
        renames: Mapping[str, str] | None = None,
        *,
        nested: bool = False,
        trusted: bool = True,
    ) -> None:
        self.raw, self.label = raw, label
        self.defaults, self.renames = dict(defaults or {}), dict(renames or {})
        self.nested, self.trusted = nested, trusted
        self.read: set[str] = set()
        self.defaulted: dict[str, Any] = {}
        self.unproven: dict[str, str] = {}
        self.parts: list[Config] = []
        self.main: Config = self

    # -- looking up ----------------------------------------------------------------------------

    def lookup(self, key: str) -> Any:
        """The value under a key or one of its spellings; `MISSING` if there is none."""
        spellings = (key, *((self.renames[key],) if key in self.renames else ()), *SYNONYMS.get(key, ()))
        found: dict[str, Any] = {}
        for spelling in spellings:
            if spelling in self.raw:
                self.read.add(spelling)
                if self.raw[spelling] is not None or spelling == key:
                    found[spelling] = self.raw[spelling]
        if not found:
            return MISSING
        values = [value for value in found.values() if value is not None]
        if key != "max_position_embeddings" and any(
            value is not values[0] and value != values[0] for value in values
        ):
            stated = ", ".join(f"{name} = {str(value)[:40]}" for name, value in found.items())
            raise ConfigError(f"{self.label} contradicts itself: {stated}.", "Keep one of these keys.")
        return values[0] if values else None

    def _default(self, key: str) -> Any:
        """The class's default for a key that the file omits."""
        value = self.defaults.get(self.renames.get(key, key), self.defaults.get(key, MISSING))
        if value is not MISSING and value is not None:
            self.defaulted[key] = value
        return value

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        value = _DERIVED[key](self) if key in _DERIVED else self.size(key)
        self.__dict__[key] = value
        return value

    def size(self, key: str, default: Any = MISSING) -> int:
        """A positive integer that must be there (or have a default)."""
        value = self.lookup(key)
        if value is MISSING or value is None:
            if key not in CORE or self.nested:
                value = self._default(key)
            if value is MISSING or value is None:
                value = default
            if value is MISSING:
                raise ConfigError(
                    f"{self.label} lacks {key}.",
                    f'Add "{key}" to it; every saved config.json of a model has it.',
                )
        return self._checked(key, value)

    def _checked(self, key: str, value: Any, least: int = 1) -> int:
        most = MAX_LAYERS if key in LAYER_KEYS else MAX_SIZE
        shown = repr(value) if len(repr(value)) <= 40 else repr(value)[:37] + "..."
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(
                f"{self.label}: {key} is {shown}, not a whole number.", f"Set {key} to an integer."
            )
        if value < least:
            raise ConfigError(
                f"{self.label}: {key} is {shown}; it must be {least} or more.", f"Correct {key}."
            )
        if value > most:
            raise ConfigError(
                f"{self.label}: {key} is {shown}; no model has more than {most:,}.", f"Correct {key}."
            )
        return value

    def optional(self, key: str) -> int | None:
        """A positive integer, or None where null, zero or absent (after the class default)."""
        value = self.lookup(key)
        if value is MISSING:
            value = self._default(key)
        if value is MISSING or value is None or (value == 0 and not isinstance(value, bool)):
            return None
        return self._checked(key, value)

    def number(self, key: str, default: int = 0, stated_only: bool = False) -> int:
        """A whole number of 0 or more; with `stated_only` the class default does not count."""
        value = self.lookup(key)
        if value is MISSING and not stated_only:
            value = self._default(key)
        return self._checked(key, default if value is MISSING or value is None else value, 0)

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean; absent takes the class default, then `default`."""
        value = self.lookup(key)
        if value is MISSING:
            value = self._default(key)
        if value is MISSING or value is None:
            return default
        if isinstance(value, bool) or value in (0, 1):
            return bool(value)
        raise ConfigError(
            f"{self.label}: {key} is {value!r}, not true or false.", f"Set {key} to true or false."
        )

    def indices(self, key: str) -> frozenset[int]:
        """A list of layer indices; absent or null is empty."""
        value = self.lookup(key)
        if value is MISSING or value is None:
            return frozenset()
        if not isinstance(value, list) or not all(
            isinstance(v, int) and not isinstance(v, bool) for v in value
        ):
            raise ConfigError(f"{self.label}: {key} is not a list of layer numbers.", f"Correct {key}.")
        return frozenset(value)

    # -- windows and patterns: never from a class default ---------------------------------------

    def window(self, key: str = "sliding_window") -> int | None:
        """A window in tokens, or None for full attention; an absent key is full, and unproven."""
        value = self.lookup(key)
        if value is MISSING:
            self.unproven[key] = f"{self.label} does not say {key}; full attention is assumed"
            return None
        if not self.trusted:
            self.unproven[key] = f"{key} comes from an unverified copy of the configuration"
        if value is None or (value == 0 and not isinstance(value, bool)) or value == -1:
            return None
        return self._checked(key, value)

    def layer_types(
        self, *instead: str, known: tuple[str, ...] = ("full_attention", "sliding_attention")
    ) -> tuple[str, ...] | None:
        """The kind of each layer where the configuration lists it; then the keys `instead` do not count.

        Raises
        ------
        ConfigError
            For a word that the family does not know.
        """
        if "_layer_types" not in self.__dict__:
            self.__dict__["_layer_types"] = self._layer_types(known)
        kinds: tuple[str, ...] | None = self.__dict__["_layer_types"]
        if kinds is not None:
            self.read.update(instead)
        return kinds

    def _layer_types(self, known: tuple[str, ...]) -> tuple[str, ...] | None:
        value = self.lookup("layer_types")
        if value is MISSING or value is None:
            return None
        layers = self.num_hidden_layers
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise ConfigError(f"{self.label}: layer_types is not a list of words.", "Correct layer_types.")
        if len(value) < layers:
            raise ConfigError(
                f"{self.label}: layer_types names {len(value)} layers, num_hidden_layers says {layers}.",
                "Make them agree.",
            )
        strange = sorted(set(value) - set(known))
        if strange:
            raise ConfigError(
                f"{self.label}: layer_types has the unknown word {strange[0][:40]!r}.",
                f"Known are {', '.join(known)}.",
            )
        if not self.trusted:
            self.unproven["layer_types"] = "layer_types comes from an unverified copy of the configuration"
        return tuple(value[:layers])

    def pattern(self, *keys: str, known: int | None = None) -> int:
        """An interval of layers under one of several keys, or the one that the family's makers published."""
        for key in keys:
            value = self.lookup(key)
            if value is not MISSING and value is not None:
                if not self.trusted:
                    self.unproven[key] = f"{key} comes from an unverified copy of the configuration"
                return self._checked(key, value)
        if known is None:
            raise ConfigError(
                f"{self.label} says neither layer_types nor {' nor '.join(keys)}.", f'Add "{keys[0]}".'
            )
        return known

    # -- nested parts and the head --------------------------------------------------------------

    def part(
        self,
        key: str,
        defaults: Mapping[str, Any] | None,
        renames: Mapping[str, str] | None = None,
        main: bool = False,
    ) -> Config:
        """A nested configuration, such as ``text_config``; `main` where it is the decoder's."""
        value = self.lookup(key)
        if value is MISSING or value is None:
            value = {}
        if not isinstance(value, dict):
            raise ConfigError(f"{self.label}: {key} is not an object.", f"Correct {key}.")
        part = Config(value, f"{self.label} {key}", defaults, renames, nested=True, trusted=self.trusted)
        self.parts.append(part)
        if main:
            self.main = part
        return part

    @property
    def architecture(self) -> str:
        """The class that the configuration names, or empty."""
        value = self.lookup("architectures")
        return str(value[0]) if isinstance(value, list) and value else ""

    @property
    def labels(self) -> int:
        """Classes of a classification head. [-]"""
        named = self.lookup("id2label")
        if isinstance(named, dict) and named:
            return len(named)
        return self.size("num_labels", 2)

    def state_dtype(self) -> str:
        """Precision of recurrent states: fp32 unless the configuration says otherwise."""
        value = self.lookup("mamba_ssm_dtype")
        if value is MISSING or value is None:
            return "fp32"
        short = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}.get(str(value))
        if short is None:
            raise ConfigError(
                f"{self.label}: mamba_ssm_dtype is {value!r}.", "Use float32, bfloat16 or float16."
            )
        return short

    def check(self, *keys: str) -> None:
        """Read sizes now, so that all that are missing or wrong are told together."""
        problems = Problems()
        for key in keys:
            with problems:
                getattr(self, key)
        problems.check()

    def gather(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Defaults used and fields unproven, here and in the nested parts."""
        defaulted, unproven = dict(self.defaulted), dict(self.unproven)
        for part in self.parts:
            more, doubtful = part.gather()
            defaulted |= more
            unproven |= doubtful
        return defaulted, unproven


def _kv_heads(c: Config) -> int:
    value = c.lookup("num_key_value_heads")
    if value is MISSING:
        value = c._default("num_key_value_heads")
    heads = c.num_attention_heads
    if value is MISSING or value is None:
        return int(heads)
    kv_heads = c._checked("num_key_value_heads", value)
    if kv_heads > heads or heads % kv_heads:
        raise ConfigError(
            f"{c.label}: num_key_value_heads is {kv_heads}, num_attention_heads is {heads}; "
            "the query heads must be a multiple of the KV heads.",
            "Correct one of the two.",
        )
    return kv_heads


def _head_dim(c: Config) -> int:
    value = c.lookup("head_dim")
    if value is MISSING:
        value = c._default("head_dim")
    if value is not MISSING and value is not None:
        return c._checked("head_dim", value)
    hidden, heads = c.hidden_size, c.num_attention_heads
    if hidden % heads:
        raise ConfigError(
            f"{c.label}: hidden_size {hidden} is no multiple of num_attention_heads {heads}, "
            "and there is no head_dim.",
            'Add "head_dim", or correct one of the two.',
        )
    return int(hidden // heads)


_DERIVED = {"num_key_value_heads": _kv_heads, "head_dim": _head_dim}
