"""What a framework's own file says of a step: below what is given, above a preset and the defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.errors import InputError
from llmcalc.model.inventory import Inventory


class Told:
    """What a file says.

    Attributes
    ----------
    name : str
        The file's name, the origin of what it says.
    values : dict
        Keywords of `llmcalc.train`.
    zero : ZeroSettings or None
        DeepSpeed's own settings.
    gpus : int or None
        Processes that it starts. [-]
    total : int or None
        Sequences of a step over all GPUs. [-]
    notes : list of str
        What the reader should know.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, Any] = {}
        self.zero: Any = None
        self.gpus: int | None = None
        self.total: int | None = None
        self.dtypes: dict[str, Any] = {}
        self.notes: list[str] = []


def settle_with_files(
    asked: Any,
    given: dict[str, Any],
    inventory: Inventory,
    preset: dict[str, Any],
    settle: Callable[[], None],
) -> None:
    """Read files, settle single settings, and take along what follows from DeepSpeed.

    Parameters
    ----------
    asked : Asked
        What is resolved.
    given : dict
        Keywords; what only a file says of the layout is filled in.
    inventory : Inventory
        The model.
    preset : dict
        A framework's settings.
    settle : callable
        Chooses each setting: given, else the file's, else the preset's, else the default.
    """
    from llmcalc.answer.training.deepspeed import go_along

    if given["deepspeed"] is not None or given["accelerate"] is not None:
        read_told(asked, given, inventory)
    settle()
    told = asked.told
    for key, value in ({} if told is None else told.values).items():
        if key not in asked.origins and given[key] is None:
            given[key], asked.origins[key] = value, told.name
    if given["zero"] is None and "zero" in preset:
        given["zero"], asked.origins["zero"] = preset["zero"], f"--like {asked.like}"
    go_along(asked, given)


def read_told(asked: Any, given: dict[str, Any], inventory: Inventory) -> None:
    """Read the files that are named, and fill in what is not given.

    Raises
    ------
    InputError
        If a file can't be read, contradicts itself, or needs a number that is not given.
    """
    if given["deepspeed"] is not None and given["accelerate"] is not None:
        raise InputError(
            "--deepspeed and --accelerate each describe the whole launch.",
            "Keep --accelerate, and name the DeepSpeed file in its deepspeed_config_file.",
        )
    if given["deepspeed"] is not None:
        from llmcalc.answer.training.deepspeed_file import read_deepspeed

        told = read_deepspeed(given["deepspeed"], given, inventory)
    else:
        from llmcalc.answer.training.accelerate_file import read_accelerate

        told = read_accelerate(given["accelerate"], given, inventory)
    asked.told = told
    for key, value in told.values.items():
        own = given.get(key)
        if own is None or own is False:
            continue
        if key == "precision" and told.dtypes.get("auto"):
            continue
        if not same(own, value):
            told.notes.append(f"--{key.replace('_', '-')} {own} is used; {told.name} says {value}.")
    asked.notes += told.notes


def same(a: Any, b: Any) -> bool:
    """Whether two settings say the same, in words or as values."""

    def plain(value: Any) -> str:
        if isinstance(value, bool):
            return "on" if value else "off"
        word = str(value).strip().lower()
        return {"true": "on", "yes": "on", "false": "off", "no": "off"}.get(word, word)

    return plain(a) == plain(b)
