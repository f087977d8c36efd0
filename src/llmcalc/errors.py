"""Errors that carry their remedy: what was given, what is allowed, what to type next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class LlmcalcError(Exception):
    """Any mistake a user can mend. The command line prints it and exits with 2.

    Parameters
    ----------
    problem : str
        What was given and why it can't be used.
    remedy : str
        What to do instead; printed on the last line.
    parts : sequence of LlmcalcError
        The mistakes that this error tells together.
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "", parts: Sequence[LlmcalcError] = ()) -> None:
        self.parts = tuple(parts)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)


class InputError(LlmcalcError):
    """A value that can't be used."""


class UnknownNameError(LlmcalcError):
    """A name that no catalog holds."""


class ConfigError(LlmcalcError):
    """A model description that can't be read, or contradicts itself."""


class CatalogError(LlmcalcError):
    """A catalog file that breaks its rules; names file, entry and field."""


class SizeOverflowError(LlmcalcError, OverflowError):
    """An array result that does not fit 64 bits."""


class Problems:
    """Collects the mistakes of one call, so that all are told together.

    Examples
    --------
    >>> problems = Problems()
    >>> with problems:
    ...     raise InputError("--tp is 0.", "Use 1 or more.")
    >>> problems.check()
    Traceback (most recent call last):
    ...
    llmcalc.errors.InputError: --tp is 0.
    Use 1 or more.
    """

    def __init__(self) -> None:
        self.found: list[LlmcalcError] = []

    def __enter__(self) -> Problems:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, LlmcalcError):
            self.found += error.parts or (error,)
            return True
        return False

    def check(self) -> None:
        """Raise what was found, if anything: one error as it is, several as one list."""
        if not self.found:
            return
        if len(self.found) == 1:
            raise self.found[0]
        lines = [f"{number}. {error.problem}" for number, error in enumerate(self.found, 1)]
        raise InputError("\n".join(lines), join_remedies(self.found), self.found)


def join_remedies(errors: Iterable[LlmcalcError]) -> str:
    """The remedies of several errors on one line, each sentence once.

    Examples
    --------
    >>> join_remedies([InputError("a", "Did you mean b? List all."), InputError("c", "List all.")])
    'Did you mean b? List all.'
    """
    sentences: dict[str, None] = {}
    for error in errors:
        for sentence in error.remedy.replace("? ", "?\n").replace(". ", ".\n").split("\n"):
            sentences[sentence] = None
    return " ".join(sentence for sentence in sentences if sentence)


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return the known names nearest to a misspelt one, best first.

    Examples
    --------
    >>> did_you_mean("lama-3.1-8b", ["llama-3.1-8b", "gpt-3"])
    ['llama-3.1-8b']
    """
    import difflib

    by_folded: dict[str, str] = {}
    for candidate in known:
        by_folded.setdefault(candidate.lower(), candidate)
    near = difflib.get_close_matches(name.lower(), by_folded, n=limit, cutoff=0.6)
    return [by_folded[word] for word in near]


def one_of(words: Sequence[str], last: str = "or") -> str:
    """Join words for a sentence.

    Examples
    --------
    >>> one_of(["1", "2", "4"])
    '1, 2 or 4'
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
