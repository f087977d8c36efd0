"""Several budgets in one question: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.answer.scaling.shown import count, flop
from llmcalc.errors import InputError, LlmcalcError
from llmcalc.formula import is_array
from llmcalc.report.sheet import Sheet, Table

SWEPT = ("compute", "params", "tokens", "loss", "days", "inference_tokens", "unique_tokens")
"""Keywords that may be arrays, lists, or texts with commas."""

MOST = 2_000
"""Budgets of one question. [-]"""


def values_of(given: dict[str, Any]) -> dict[str, list[Any]]:
    """The keywords that name several values, each as a list."""
    found = {}
    for name in SWEPT:
        value = given.get(name)
        if isinstance(value, str) and "," in value and not _thousands(value):
            found[name] = [word.strip() for word in value.split(",")]
        elif is_array(value):
            found[name] = list(getattr(value, "tolist", lambda value=value: value)())
    return found


def _thousands(text: str) -> bool:
    """Whether the commas of a number only part its thousands."""
    head, *groups = text.strip().split(",")
    return head.isdigit() and len(head) <= 3 and all(len(word) == 3 and word.isdigit() for word in groups)


def sweep(ask: Callable[..., Sheet], given: dict[str, Any], several: dict[str, list[Any]]) -> Sheet:
    """Ask for each budget, and put the answers together.

    Parameters
    ----------
    ask : callable
        `llmcalc.chinchilla`.
    given : dict
        Its keywords.
    several : dict
        Those with several values, of one length (or of one value).

    Returns
    -------
    Sheet
        Each figure that depends on the budget is an array, in each law's row too.

    Raises
    ------
    InputError
        If lengths differ, or there are too many.
    """
    length = max(map(len, several.values()))
    if not length or any(len(values) not in (1, length) for values in several.values()):
        sizes = ", ".join(f"--{name.replace('_', '-')} {len(values)}" for name, values in several.items())
        raise InputError(f"Lists must be of one length: {sizes}.", "Give as many of each, or one.")
    if length > MOST:
        raise InputError(
            f"That is {length:,} budgets.",
            f"Ask at most {MOST:,} at once; llmcalc.law(NAME).optimum takes arrays of any length.",
        )
    sheets = []
    for place in range(length):
        one = {name: values[place if len(values) > 1 else 0] for name, values in several.items()}
        try:
            sheets.append(ask(**{**given, **one}))
        except LlmcalcError as error:
            named = ", ".join(f"{name} {value}" for name, value in one.items())
            raise InputError(f"{named}: {error.problem}", error.remedy) from None
    return together(sheets)


def together(sheets: list[Sheet]) -> Sheet:
    """Answers to several budgets as one."""
    first = sheets[0]
    sheet = Sheet(first.command, [first.header[0], f"{len(sheets)} budgets", *first.header[2:]])
    sheet.data = _merged([one.data for one in sheets])
    sheet.frame = [row for one in sheets for row in one.frame]
    sheet.book, sheet.origins = first.book, first.origins
    for kind in ("warnings", "hints", "left_out"):
        told = [text for one in sheets for text in getattr(one, kind)]
        setattr(sheet, kind, list(dict.fromkeys(told)))
    for place, law in enumerate(row["law"] for row in first.data["laws"]):
        rows = [
            [
                flop(row["compute"]),
                count(row["params"]),
                count(row["tokens"]),
                f"{row['tokens_per_param']:.4g}",
                "-" if row["loss"] is None else f"{row['loss']:.4f}",
            ]
            for row in (one.data["laws"][place] for one in sheets if len(one.data["laws"]) > place)
        ]
        sheet.tables.append(Table(law, ["compute", "params", "tokens", "D/N", "loss"], rows))
    every = [row for one in sheets for row in one.data["laws"]]

    def draw(figure: Any) -> None:
        from llmcalc.render.scaling import draw_budgets

        draw_budgets(figure, every)

    sheet.drawing = draw
    return sheet


def _merged(values: list[Any]) -> Any:
    """Equal values as they are, numbers that differ as an array, dicts and lists inside."""
    import numpy as np

    if all(isinstance(one, dict) for one in values):
        keys = [key for key in values[0] if all(key in one for one in values)]
        return {key: _merged([one[key] for one in values]) for key in keys}
    if all(one == values[0] for one in values):
        return values[0]
    if all(isinstance(one, (int, float)) for one in values):
        return np.array(values)
    if all(isinstance(one, (list, tuple)) and len(one) == len(values[0]) for one in values):
        return [_merged([one[place] for one in values]) for place in range(len(values[0]))]
    return list(values)
