"""Two models on one text: their losses per token compare only where tokens do."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.text_metrics.asked import characters_per_token, find, measured, ratio
from llmcalc.answer.text_metrics.shown import digits
from llmcalc.answer.text_metrics.solved import Solved
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError
from llmcalc.report.sheet import Fact, Sheet

KEYS = ("versus_loss", "versus_bytes_per_token", "versus_tokenizer", "same_tokenizer")


def compare(sheet: Sheet, solved: Solved, given: dict[str, Any], book: Catalog) -> None:
    """Put another model's loss per token beside this one's.

    Raises
    ------
    InputError
        Where the two are not in the same tokens and nothing says how the tokens differ.
    """
    if given.get("versus_loss") is None:
        for key in KEYS[1:]:
            if given.get(key):
                raise InputError(f"--{key.replace('_', '-')} has no loss to go with.", "Add --versus-loss.")
        return
    other = measured("loss", given["versus_loss"])
    own_token = solved.bits.get("token")
    if given.get("same_tokenizer"):
        if own_token is None:
            raise InputError(
                "--same-tokenizer compares losses per token.", "Give --loss of the first model too."
            )
        _tell(sheet, own_token, other, "token", "exact")
        return
    own = solved.bits.get("byte")
    size = _bytes_per_token(solved, given, book)
    if size is None or own is None:
        missing = "--versus-bytes-per-token" if size is None else "--bytes-per-token"
        raise InputError(
            "Losses per token of two tokenizers can't be compared: their tokens hold different "
            "amounts of "
            "text.",
            f"Give bytes per token of both on the same text ({missing} is missing), or "
            "--same-tokenizer if they share it.",
        )
    number, grade = size
    _tell(sheet, own, other / number, "byte", grade if solved.grades["byte"] != "assumed" else "assumed")


def _bytes_per_token(solved: Solved, given: dict[str, Any], book: Catalog) -> tuple[float, str] | None:
    """Bytes of a token of the other model."""
    if given.get("versus_bytes_per_token") is not None:
        return ratio("versus_bytes_per_token", given["versus_bytes_per_token"]), "derived"
    if given.get("versus_tokenizer") is None:
        return None
    if given.get("language") is None:
        raise InputError("--versus-tokenizer needs the language of the text.", "Add --language english.")
    text = find(book, "texts", given["language"], "--language")
    tokenizer = find(book, "tokenizers", given["versus_tokenizer"], "--versus-tokenizer")
    density = solved.asked.amounts.per("byte", "character")
    if density is None:
        return None
    return characters_per_token(tokenizer, text, book)[0] * density[0], "assumed"


def _tell(sheet: Sheet, own: float, other: float, unit: str, grade: str) -> None:
    """Both, and which is better; assumed ratios decide nothing that is close."""
    margin = 0.15 if grade == "assumed" else 0.001
    gap = other / own - 1 if own else 0.0
    verdict = (
        "too close to call"
        if abs(gap) < margin
        else "the first is better"
        if gap > 0
        else "the second is better"
    )
    sheet.data["versus"] = {
        "unit": unit,
        "bits": own,
        "other_bits": other,
        "verdict": verdict,
        "grade": grade,
    }
    sheet.facts.append(
        Fact(
            "versus",
            f"{digits(own)} to {digits(other)}",
            f"bits per {unit}: {verdict}"
            + (" while bytes per token are assumed" if grade == "assumed" and abs(gap) < margin else ""),
            grade,
        )
    )
