"""Configuration files of training frameworks: JSON or YAML, whose every key has to be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmcalc.errors import InputError, did_you_mean


def load(source: Any, option: str, what: str) -> tuple[str, dict[str, Any]]:
    """The name and the content of a file, or of a dict that stands for one.

    Raises
    ------
    InputError
        If there is no such file, or it is no mapping.
    """
    if isinstance(source, dict):
        return f"the {what} settings", source
    path = Path(str(source)).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "is no text" if isinstance(error, UnicodeDecodeError) else (error.strerror or "can't be read")
        raise InputError(f"{option} {str(source)[:200]}: {why}.", f"Name {what}'s file.") from None
    found = _parse(text, path, option, what)
    if not isinstance(found, dict):
        kind = {list: "a list", str: "a text", type(None): "empty"}.get(type(found), "a bare value")
        raise InputError(f"{path.name} is {kind}, no mapping of settings.", f"Name {what}'s file.")
    return path.name, found


def _parse(text: str, path: Path, option: str, what: str) -> Any:
    if option == "--deepspeed" or path.suffix.lower() == ".json":
        import json

        twice: list[str] = []

        def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            twice.extend(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
            return dict(pairs)

        try:
            found = json.loads(text, object_pairs_hook=mapping)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path.name} is no JSON: {error.msg}, line {error.lineno}.", f"Name {what}'s JSON file."
            ) from None
        if twice:
            raise InputError(f"{path.name} says {twice[0]} twice.", "Keep one of them.")
        return found
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f", line {line + 1}"
        raise InputError(f"{path.name} is no YAML{place}.", f"Name {what}'s file.") from None


class Section:
    """One mapping of a file: what is taken out of it, and what nobody knows.

    Parameters
    ----------
    file : str
        The file's name.
    path : str
        Where in it, with a dot at the end; empty at the top.
    content : dict
        What it says.
    """

    def __init__(self, file: str, path: str, content: Any) -> None:
        if not isinstance(content, dict):
            raise InputError(
                f"{path.rstrip('.') or 'the whole'} of {file} is no mapping of settings.",
                f"Write {path.rstrip('.')}: {{...}}.",
            )
        self.file, self.path, self.content = file, path, content
        self.left = dict(content)

    def take(self, key: str, default: Any = None) -> Any:
        """A value, which is known from now on."""
        value = self.left.pop(key, default)
        return default if value is None else value

    def section(self, key: str) -> Section | None:
        """A mapping within."""
        value = self.left.pop(key, None)
        return None if value is None else Section(self.file, f"{self.path}{key}.", value)

    def number(self, key: str, least: int = 0) -> int | None:
        """A whole number, which may be written 5e8; None where it is not there."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, str) and value.strip().lower() == "auto":
            raise InputError(
                f'{self.path}{key} of {self.file} is "auto", which nothing here resolves.',
                f"Write a number for {key}.",
            )
        try:
            if isinstance(value, bool):
                raise ValueError
            parsed = float(value)
            whole = int(parsed)
            if whole != parsed or whole < least:
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{self.path}{key} of {self.file} is {str(value)[:40]!r}, no whole number from {least}.",
                f"Write a number for {key}.",
            ) from None
        return whole

    def flag(self, key: str, default: bool | None = None) -> bool | None:
        """A switch."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in ("true", "false", "auto"):
            word = value.strip().lower()
            return default if word == "auto" else word == "true"
        raise InputError(
            f"{self.path}{key} of {self.file} is {str(value)[:40]!r}, neither true nor false.",
            "Write true or false.",
        )

    def word(self, key: str, allowed: tuple[str, ...]) -> str | None:
        """One word of a list, whatever its case."""
        value = self.take(key)
        if value is None:
            return None
        word = str(value).strip().lower()
        if word in allowed:
            return word
        near = did_you_mean(word, allowed, 1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(
            f"{self.path}{key} of {self.file} is {str(value)[:40]!r}, which is not known.",
            f"{hint}Use {', '.join(allowed)}.",
        )

    def done(self, known: tuple[str, ...] = (), irrelevant: tuple[str, ...] = ()) -> None:
        """Refuse what is left, but for what needs no memory.

        Raises
        ------
        InputError
            With the nearest known key.
        """
        for key in self.left:
            if key in irrelevant or str(key).startswith(("_", "//")):
                continue
            names = (*known, *irrelevant, *(one for one in self.content if one not in self.left))
            near = did_you_mean(str(key), names, 1)
            hint = f"Did you mean {near[0]}? " if near else ""
            where = f"in {self.path.rstrip('.')} of {self.file}" if self.path else f"in {self.file}"
            raise InputError(f"{str(key)[:60]!r} {where} is not known.", f"{hint}Correct it or leave it out.")
