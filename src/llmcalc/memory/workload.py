"""What is remembered and in which formats: the inputs that the folds share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmcalc.errors import InputError
from llmcalc.formula import Quantity
from llmcalc.memory.engines import none as minimum
from llmcalc.model.inventory import Cache
from llmcalc.precision import Format


class Workload:
    """What is remembered: tokens of each stream, sequences, and how the engine lays caches out.

    Attributes
    ----------
    streams : dict
        Tokens of one sequence by stream: ``{"decoder": 8192, "encoder": 1500}``. [tokens]
    sequences : int or ndarray
        Sequences held at once. [-]
    layout : callable
        The engine's cache for a cache of the architecture.
    assumed : bool
        Whether a length is assumed that the user might have given.
    """

    __slots__ = ("assumed", "layout", "sequences", "streams")

    def __init__(
        self,
        streams: Mapping[str, Quantity],
        sequences: Quantity = 1,
        layout: Callable[[Cache], Cache] = minimum.layout,
        assumed: bool = False,
    ) -> None:
        self.assumed = assumed
        self.streams, self.sequences, self.layout = dict(streams), sequences, layout

    def tokens(self, cache: Cache) -> Quantity:
        """Tokens of the stream that a cache remembers."""
        found = self.streams.get(cache.stream)
        if found is None:
            raise InputError(
                f"The model also remembers its {cache.stream} tokens, and their number is not given.",
                f"Add --{cache.stream}-tokens N.",
            )
        return found


class Precision:
    """The formats of one estimate: of weights, of keys, of values and of model-dtype states.

    Attributes
    ----------
    weight_bits : int or Fraction
        Bits of what has no format of its own: the model's dtype, or what the user set for all. [bit]
    label, grade, source : str
        The name of that dtype or scheme, how sure it is, and where it is described.
    model, key, value : Format
        Of states in the model's dtype, of keys, of values.
    native : dict or None
        Bits of the formats that single tensors have for themselves; None prices all alike.
    """

    __slots__ = ("grade", "key", "label", "model", "native", "source", "value", "weight_bits")

    def __init__(
        self,
        weight_bits: Any,
        label: str,
        grade: str,
        model: Format,
        key: Format,
        value: Format,
        native: Mapping[str, Any] | None = None,
        source: str = "Transformer Math 101, 2023",
    ) -> None:
        self.weight_bits, self.label, self.grade, self.source = weight_bits, label, grade, source
        self.model, self.key, self.value, self.native = model, key, value, native

    def bits(self, name: str) -> Any:
        """Bits of a format by its name, of the model's dtype where it has none. [bit]"""
        return (self.native or {}).get(name, self.weight_bits)
