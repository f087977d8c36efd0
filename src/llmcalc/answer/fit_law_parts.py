"""Parts of the answer of `llmcalc fit-law`: an optimum, the call, numbers as people type them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmcalc.errors import InputError
from llmcalc.formula import is_array

MOST = 1e35
"""Compute above which a budget makes no sense. [FLOP]"""


def positive(value: Any, what: str, example: str, most: float = math.inf) -> float:
    """A number above 0 as people type it.

    Raises
    ------
    InputError
        If it is none.
    """
    remedy = f"Use a number such as {example}."
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} is {str(value)[:30]!r}, which is not a number.", remedy) from None
    if not math.isfinite(number) or number <= 0:
        raise InputError(f"{what} is {number:g}; it must be above 0 and finite.", remedy)
    if number > most:
        raise InputError(f"{what} is {number:g}, above the largest that makes sense ({most:g}).", remedy)
    return number


class FitCall:
    """The call that made a fit, to be repeated from a shell or from Python.

    Parameters
    ----------
    source : object
        The data, as given.
    asked : mapping
        Keywords that were given.
    """

    APART = ("executor", "progress")

    def __init__(self, source: Any, asked: Mapping[str, Any]) -> None:
        self.source = source
        self.asked = {
            key: value
            for key, value in asked.items()
            if value is not None and value is not False and key not in self.APART
        }

    def python(self) -> str:
        """The call of the Python API."""
        first = repr(self.source) if isinstance(self.source, str) else "data"
        words = [f"{key}={self._plain(value)!r}" for key, value in self.asked.items()]
        return f"llmcalc.fit_law({', '.join([first, *words])})"

    def shell(self) -> str:
        """The command line; of data that have no file, the call of Python."""
        import shlex

        if not isinstance(self.source, str):
            return self.python()
        words = ["llmcalc", "fit-law", shlex.quote(self.source)]
        for key, value in self.asked.items():
            option = f"--{key.replace('_', '-')}"
            if value is True:
                words.append(option)
            elif key == "where":
                several = [value] if isinstance(value, str) else self._plain(value)
                words += [word for one in several for word in (option, shlex.quote(str(one)))]
            elif isinstance(value, Mapping):
                words += [option, ",".join(f"{name}={one:g}" for name, one in value.items())]
            elif is_array(value):
                words += [
                    option,
                    ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value),
                ]
            else:
                words += [option, shlex.quote(f"{value:g}" if isinstance(value, float) else str(value))]
        return " ".join(words)

    @staticmethod
    def _plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return dict(value)
        return [one.item() if hasattr(one, "item") else one for one in value] if is_array(value) else value


class Optimum:
    """The best parameters and tokens for a budget of compute.

    Attributes
    ----------
    compute : float
        The budget. [FLOP]
    params, tokens, tokens_per_param : float
        What is best. [-], [tokens], [tokens per parameter]
    loss : float or None
        The loss there; None where an approach gives none.
    intervals : dict
        Of each of these, low and high; empty without a bootstrap.
    beyond : float
        The budget over the largest compute of the data. [-]
    """

    NAMES = ("params", "tokens", "tokens_per_param", "loss")

    def __init__(
        self,
        compute: float,
        values: Mapping[str, Any],
        intervals: dict[str, tuple[float, float]],
        beyond: float,
    ) -> None:
        self.compute, self.intervals, self.beyond = compute, intervals, beyond
        self.params, self.tokens = values["params"], values["tokens"]
        self.tokens_per_param, self.loss = values["tokens_per_param"], values.get("loss")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        own = {name: getattr(self, name) for name in self.NAMES}
        return {
            "compute": self.compute, **own, "beyond_data": self.beyond,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<optimum at {self.compute:g} FLOP: {self.params:.4g} parameters, {self.tokens:.4g} tokens>"


def budgets_near(largest: float) -> Sequence[float]:
    """Budgets to show where none is asked for: the power of ten below the largest compute, and beyond.

    Examples
    --------
    >>> budgets_near(1.3e22)
    [1e+22, 1e+23, 1e+24]
    """
    power = math.floor(math.log10(largest))
    return [float(f"1e{power + more}") for more in range(3)]
