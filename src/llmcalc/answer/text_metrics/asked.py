"""What was asked of a text: measures, counts and ratios, read and checked."""

from __future__ import annotations

import math
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, Problems, UnknownNameError, did_you_mean
from llmcalc.text.amounts import Amounts
from llmcalc.text.counting import Counts, count_file
from llmcalc.text.formulas import bits_of_nats, loss_of_perplexity
from llmcalc.units import DECIMAL, parse_bytes, parse_decimal, parse_whole, shown

MEASURES = {
    "loss": ("token", "nats"),
    "bits_per_token": ("token", "bits"),
    "perplexity": ("token", "perplexity"),
    "nats_per_character": ("character", "nats"),
    "bits_per_character": ("character", "bits"),
    "character_perplexity": ("character", "perplexity"),
    "nats_per_byte": ("byte", "nats"),
    "bits_per_byte": ("byte", "bits"),
    "byte_perplexity": ("byte", "perplexity"),
    "compression_ratio": ("byte", "ratio"),
    "compression_factor": ("byte", "factor"),
    "nats_per_word": ("word", "nats"),
    "bits_per_word": ("word", "bits"),
    "word_perplexity": ("word", "perplexity"),
    "log_likelihood": ("text", "likelihood"),
    "total_nats": ("text", "nats"),
    "total_bits": ("text", "bits"),
}
"""Measures of a text: of which unit, and in what."""

COUNTS = {"tokens": "token", "characters": "character", "bytes": "byte", "words": "word"}
RATIOS = {
    "chars_per_token": ("character", "token"),
    "bytes_per_token": ("byte", "token"),
    "bytes_per_char": ("byte", "character"),
    "tokens_per_word": ("token", "word"),
    "chars_per_word": ("character", "word"),
    "bytes_per_word": ("byte", "word"),
}

MOST_BITS = 1000.0
"""Bits of one token, character, byte or word above which something is wrong. [bits]"""


def option(name: str) -> str:
    """How a keyword is spelled on the command line."""
    return f"--{name.replace('_', '-')}"


def real(value: Any, what: str, remedy: str) -> float:
    """A finite number.

    Raises
    ------
    InputError
        If it is none.
    """
    if not isinstance(value, bool):
        try:
            parsed = parse_decimal(value) if isinstance(value, str) else None
            number = parsed[0] / parsed[1] if parsed else float(value)
            if parsed and "e" in value.lower():  # exponents beyond 60 are cut above
                number = float(value.replace("_", "").replace(",", ""))
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise InputError(f"{what} is {shown(value)}, which is not a finite number.", remedy)


def measured(name: str, value: Any) -> float:
    """Bits per unit of a measure.

    Raises
    ------
    InputError
        For numbers that the measure can't have.
    """
    unit, kind = MEASURES[name]
    what = option(name)
    share = isinstance(value, str) and value.strip().endswith("%")
    text = value.strip()[:-1] if share else value
    number = real(text, what, f"Use a number such as {_example(kind)}.") / (100 if share else 1)
    if share and kind != "ratio":
        raise InputError(
            f"{what} is {shown(value)}; it is no share.", f"Use a number such as {_example(kind)}."
        )
    if kind == "perplexity" and number < 1:
        raise InputError(
            f"{what} is {shown(value)}; a perplexity is 1 or more, and 1 means that all was certain.",
            f"If it is a loss, use {_loss_option(unit)}; a perplexity is e to that.",
        )
    if kind == "likelihood":
        if number > 0:
            raise InputError(
                f"{what} is {shown(value)}; the logarithm of a probability is 0 or less.",
                "Give the sum of ln p with its minus, or --total-nats without.",
            )
        number, kind = -number, "nats"
    if number < 0 or (number == 0 and kind in ("ratio", "factor")):
        raise InputError(
            f"{what} is {shown(value)}; it can't be {'negative' if number else '0'}.",
            f"Use a number such as {_example(kind)}.",
        )
    bits = _bits(kind, number)
    if unit != "text" and bits > MOST_BITS:
        raise InputError(
            f"{what} is {shown(value)}, above what makes sense ({MOST_BITS:g} bits per {unit}).",
            "If it is a sum over the text, use --total-nats with the counts of the text.",
        )
    return bits


def _bits(kind: str, number: float) -> float:
    if kind == "bits":
        return number
    if kind == "nats":
        return float(bits_of_nats(number))
    if kind == "perplexity":
        return float(bits_of_nats(loss_of_perplexity(number)))
    return 8 * number if kind == "ratio" else 8 / number


def _example(kind: str) -> str:
    return {"perplexity": "12.3", "ratio": "0.12 or 12%", "factor": "8.6", "likelihood": "-1234.5"}.get(
        kind, "2.1"
    )


def _loss_option(unit: str) -> str:
    return "--loss" if unit == "token" else f"--nats-per-{unit}"


def counted(name: str, value: Any) -> int:
    """A count: bytes with their units, others with k, m, b, t.

    Raises
    ------
    InputError
        If it is no whole number above 0.
    """
    what = option(name)
    if name == "bytes":
        number = parse_bytes(value, what)
        if number == 0:
            raise InputError(f"{what} is {shown(value)}; it must be above 0.", "Use a size such as 4.3GB.")
        return number
    return parse_whole(value, what, DECIMAL, "1500, 300b or 15t", 10**18)


def ratio(name: str, value: Any) -> float:
    """Units per other unit.

    Raises
    ------
    InputError
        If it is not above 0, or absurd.
    """
    number = real(value, option(name), "Use a number such as 4.3.")
    if not 1e-4 <= number <= 1e4:
        low = "it must be above 0" if number <= 0 else "no text has that"
        raise InputError(f"{option(name)} is {shown(value)}; {low}.", "Use a number such as 4.3.")
    return number


class Asked:
    """A question, read.

    Attributes
    ----------
    amounts : Amounts
        Counts and ratios of the text.
    measures : list of tuple
        Name, unit and bits per unit of what was given.
    text : Counts or None
        What the file has.
    assumed : dict
        What was taken from a tokenizer's table, and its range.
    """

    def __init__(self) -> None:
        self.amounts = Amounts()
        self.measures: list[tuple[str, str, float]] = []
        self.text: Counts | None = None
        self.assumed: dict[str, Any] = {}
        self.given: dict[str, Any] = {}


def read(
    given: dict[str, Any], book: Catalog, text: Counts | None = None, corpus: Any = None, upper: bool = False
) -> Asked:
    """Read a question, telling all mistakes together.

    Parameters
    ----------
    given : dict
        Keywords of the call.
    book : Catalog
        Where tokenizers are.
    text : Counts, optional
        What the text has, where it was counted before.
    corpus : Corpus, optional
        Parts that were added up.
    upper : bool
        Whether an assumed tokenizer is taken at its upper end.

    Raises
    ------
    InputError
        With every mistake.
    """
    asked, problems = Asked(), Problems()
    asked.given = given
    if corpus is not None:
        for unit, number in corpus.counts.items():
            asked.amounts.count(unit, number, "the parts")
        asked.measures.append(("total_bits", "text", corpus.bits))
    if given.get("text") is not None:
        with problems:
            asked.text = text or count_file(given["text"])
            for name, unit in (("bytes", "byte"), ("characters", "character"), ("words", "word")):
                number = getattr(asked.text, name)
                if number:
                    asked.amounts.count(unit, number, "the text's own count")
    for name, unit in COUNTS.items():
        if given.get(name) is not None:
            with problems:
                asked.amounts.count(unit, counted(name, given[name]), option(name))
    for name, (unit, other) in RATIOS.items():
        if given.get(name) is not None:
            with problems:
                asked.amounts.ratio(unit, other, ratio(name, given[name]), option(name))
    for name, (unit, _) in MEASURES.items():
        if given.get(name) is not None:
            with problems:
                asked.measures.append((name, unit, measured(name, given[name])))
    with problems:
        _language(asked, given, book, upper)
    problems.check()
    return asked


def find(book: Catalog, kind: str, name: Any, what: str) -> dict[str, Any]:
    """An entry of a catalog.

    Raises
    ------
    UnknownNameError
        With the nearest names.
    """
    entry = book.lookup(kind, name) if isinstance(name, str) and name.strip() else None
    if entry is not None:
        return entry
    names = [str(one["name"]) for one in book.entries(kind)]
    near = did_you_mean(str(name)[:40], names)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    more = (
        "; for another give --bytes-per-token"
        if kind == "tokenizers"
        else "; for another give --bytes-per-char"
    )
    raise UnknownNameError(
        f"{what} {shown(name)} is not in the catalog.", f"{hint}There are {', '.join(names)}{more}."
    )


def _language(asked: Asked, given: dict[str, Any], book: Catalog, upper: bool) -> None:
    """Ratios of a tokenizer and a language, where they are asked for and nothing better is known."""
    problems = Problems()
    text: dict[str, Any] | None = None
    tokenizer: dict[str, Any] | None = None
    if given.get("language") is not None:
        with problems:
            text = find(book, "texts", given["language"], "--language")
    if given.get("tokenizer") is not None:
        with problems:
            tokenizer = find(book, "tokenizers", given["tokenizer"], "--tokenizer")
    problems.check()
    if tokenizer is not None and given.get("language") is None:
        raise InputError(
            "--tokenizer needs the language of the text: tokens differ from one to the next by up to "
            "9 times.",
            "Add --language english, or give --bytes-per-token of your own text.",
        )
    if text is None:
        return
    source = f"--language {text['name']}"
    asked.assumed = {"language": text["name"], "tokenizer": None, "chars_per_token_range": None}
    if asked.amounts.per("byte", "character") is None:
        asked.amounts.ratio("byte", "character", text["bytes"] / text["characters"], source, "assumed")
    if text.get("words") and asked.amounts.per("character", "word") is None:
        asked.amounts.ratio("character", "word", text["characters"] / text["words"], source, "assumed")
    if tokenizer is None:
        return
    low, high = characters_per_token(tokenizer, text, book)
    asked.assumed |= {"tokenizer": tokenizer["name"]}
    if asked.amounts.per("character", "token") is None:
        told = f"--tokenizer {tokenizer['name']}, {source}"
        asked.amounts.ratio("character", "token", high if upper else low, told, "assumed")
        asked.assumed["chars_per_token_range"] = [low, high]


def characters_per_token(
    tokenizer: dict[str, Any], text: dict[str, Any], book: Catalog
) -> tuple[float, float]:
    """Characters per token: usual, and as measured.

    The measured text is formal and in every training set, so it takes few tokens; its ratio to English is
    more to be trusted than its level. So the usual figure is the published one of English times that ratio.
    Files of a repository are taken as measured.
    """
    lacking = [name for name in (text["name"], "english") if name not in tokenizer["tokens"]]
    if lacking:
        raise InputError(
            f"The tokenizer {tokenizer['name']} has no tokens of {lacking[0]}.",
            "Give --bytes-per-token of your own text.",
        )
    own = text["characters"] / tokenizer["tokens"][text["name"]]
    if text["kind"] == "file":
        return own, own
    english = find(book, "texts", "english", "--language")
    level = english["characters"] / tokenizer["tokens"]["english"]
    return tokenizer["english_characters_per_token"] * own / level, own
