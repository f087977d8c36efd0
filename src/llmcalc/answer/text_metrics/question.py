"""`llmcalc.text_metrics`, from keywords to a sheet."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.text_metrics import parts
from llmcalc.answer.text_metrics.asked import (
    COUNTS,
    MEASURES,
    RATIOS,
    Asked,
    counted,
    find,
    option,
    read,
    real,
)
from llmcalc.answer.text_metrics.shown import digits, entropy_facts, fill, origin_of, vocabulary_facts
from llmcalc.answer.text_metrics.solved import Solved
from llmcalc.answer.text_metrics.versus import KEYS, compare
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, Problems
from llmcalc.formula import is_array
from llmcalc.report.sheet import Fact, Sheet
from llmcalc.text.distributions import cross_entropy, distribution, entropy
from llmcalc.text.formulas import bits_of_nats, divergence, nats_of_bits, perplexity_of_nats


def answer(given: dict[str, Any], book: Catalog) -> Sheet:
    """The sheet of a question.

    Raises
    ------
    LlmcalcError
        With every mistake and its remedy.
    """
    sheet = Sheet("ppl")
    sheet.data["scenario"] = {
        key: value for key, value in given.items() if value is not None and value is not False
    }
    if given.get("p") is not None or given.get("q") is not None:
        return _distributions(sheet, given)
    corpus, single = _corpus(given)
    asked = read(single, book, corpus=corpus)
    amounts = any(given.get(key) is not None for key in (*COUNTS, *RATIOS, "text", "vocab"))
    if not asked.measures and not amounts and not asked.assumed:
        raise InputError(
            "There is nothing to convert.",
            "Give a loss (--loss 2.1), a perplexity, bits per byte or a count such as --tokens 15t.",
        )
    solved = Solved(asked)
    high = None
    if asked.assumed.get("chars_per_token_range"):
        high = Solved(read(single, book, asked.text, corpus, upper=True))
    _whole(asked, solved)
    more: dict[str, Any] = {"vocabulary": _vocabulary(asked, single, book)}
    fill(sheet, asked, solved, high, corpus, more)
    nats = sheet.data["nats_per_token"]
    problems = Problems()
    if more["vocabulary"]:
        vocabulary_facts(sheet, more["vocabulary"], nats)
    if single.get("entropy") is not None:
        with problems:
            _entropy(sheet, single["entropy"], nats)
    with problems:
        compare(sheet, solved, single, book)
    problems.check()
    sheet.origins = origin_of(asked)
    if sheet.tables and solved.bits:
        sheet.drawing = _drawing(solved)
    return sheet


def _corpus(given: dict[str, Any]) -> tuple[parts.Corpus | None, dict[str, Any]]:
    """Parts, and what is given of the whole."""
    given = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in given.items()}
    lists = {key: value for key, value in given.items() if is_array(value) and key in (*MEASURES, *COUNTS)}
    single = {key: value for key, value in given.items() if key not in lists}
    file = given.get("parts")
    if file is None and not lists:
        return None, single
    if file is not None and lists:
        raise InputError("--parts and several values of one option both name parts.", "Use one of them.")
    if file is not None and file == "-" and given.get("text") == "-":
        raise InputError("--parts and --text can't both read standard input.", "Name a file for one of them.")
    corpus = parts.from_file(file) if file is not None else parts.from_lists(lists)
    return corpus, single


def _whole(asked: Asked, solved: Solved) -> None:
    """Refuse a measure of the whole text whose units are not known: nothing would follow."""
    if solved.base is not None and solved.base[1] == "text" and len(solved.bits) == 1:
        raise InputError(
            f"{option(solved.base[0])} is of the whole text, of which no count is known.",
            "Add --tokens, --bytes, --characters or --words, or the --text itself.",
        )


def _vocabulary(asked: Asked, given: dict[str, Any], book: Catalog) -> int | None:
    if given.get("vocab") is not None:
        return counted("vocab", given["vocab"])
    if asked.assumed.get("tokenizer"):
        return find(book, "tokenizers", asked.assumed["tokenizer"], "--tokenizer").get("vocabulary")
    return None


def _entropy(sheet: Sheet, value: Any, nats: float | None) -> None:
    number = real(value, "--entropy", "Use nats per token, such as 1.69.")
    if number < 0:
        raise InputError(f"--entropy is {value}; it can't be negative.", "Use nats per token, such as 1.69.")
    if nats is None:
        raise InputError("--entropy is set against a loss per token, which is not known.", "Add --loss.")
    if number > nats * (1 + 1e-9):
        raise InputError(
            f"--entropy {number:g} is above the loss of {digits(nats)} nats: no model is better than "
            "the text's entropy.",
            f"If it is in bits, it is {digits(float(nats_of_bits(number)))} nats; else correct one of them.",
        )
    entropy_facts(sheet, number, nats)


def _distributions(sheet: Sheet, given: dict[str, Any]) -> Sheet:
    """Entropy of p; with q the cross-entropy and the divergence too."""
    others = [
        key
        for key in (*MEASURES, *COUNTS, *RATIOS, "text", "parts", "entropy", *KEYS)
        if given.get(key) is not None and given.get(key) is not False
    ]
    if others:
        raise InputError(
            f"--p and --q stand alone, without {option(others[0])}.", "Ask for them in a call of their own."
        )
    if given.get("p") is None:
        raise InputError("--q needs the true distribution to be held against.", "Add --p 0.5,0.25,0.25.")
    problems = Problems()
    p: list[float] = []
    q: list[float] | None = None
    with problems:
        p = distribution(_numbers(given["p"], "--p"), "--p")
    if given.get("q") is not None:
        with problems:
            q = distribution(_numbers(given["q"], "--q"), "--q")
    problems.check()
    own = entropy(p)
    facts = [("entropy", own, "H(P): no model of this source can do better")]
    sheet.header = [f"{len(p):,} outcomes"]
    if q is not None:
        crossed = cross_entropy(p, q)
        gap = max(float(divergence(crossed, own)), 0.0)
        facts += [
            ("cross_entropy", crossed, "H(P,Q) = H(P) + KL(P||Q)"),
            ("kl", gap, "KL(P||Q): what the model costs"),
        ]
    for name, nats, note in facts:
        bits = float(bits_of_nats(nats))
        sheet.data |= {f"{name}_nats": nats, f"{name}_bits": bits}
        label = name.replace("_", "-").replace("kl", "divergence")
        sheet.facts.append(Fact(label, f"{digits(bits)} bits", f"{digits(nats)} nats; {note}", "exact"))
    worth = facts[1][1] if q is not None else own
    sheet.data["perplexity"] = float(perplexity_of_nats(worth))
    sheet.facts.append(
        Fact(
            "perplexity",
            digits(sheet.data["perplexity"]),
            "2 to the bits, e to the nats",
            "exact",
            "perplexity_of_nats",
            {"nats": worth},
        )
    )
    sheet.frame = [
        {"quantity": key, "value": value, "grade": "exact"}
        for key, value in sheet.data.items()
        if key != "scenario"
    ]
    return sheet


def _numbers(value: Any, what: str) -> list[float]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        value = [word for word in value.replace(" ", ",").split(",") if word]
    if not isinstance(value, (list, tuple)):
        value = [value]
    return [real(one, what, f"Use probabilities, such as {what} 0.5,0.25,0.25.") for one in value]


def _drawing(solved: Solved) -> Any:
    def draw(figure: Any) -> None:
        from llmcalc.render.text_metrics import draw_bits

        draw_bits(figure, solved.bits)

    return draw
