"""Text metrics as data, facts and tables."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.text_metrics.asked import COUNTS, MEASURES, RATIOS, Asked, option
from llmcalc.answer.text_metrics.solved import Solved, doubts, span
from llmcalc.report.sheet import Fact, Sheet, Table
from llmcalc.text.formulas import (
    compression_factor,
    compression_share,
    divergence,
    nats_of_bits,
    perplexity_of_bits,
    uniform_loss,
)

NAMES = {"token": "token", "character": "character", "byte": "byte", "word": "word"}
PERPLEXITY = {
    "token": "perplexity",
    "character": "character_perplexity",
    "byte": "byte_perplexity",
    "word": "word_perplexity",
}
MOST = 1000.0
"""Bits beyond which a perplexity is no number that anybody reads. [bits]"""


def digits(value: float | None, count: int = 5) -> str:
    """A figure to so many digits, thousands apart."""
    if value is None:
        return "-"
    if abs(value) >= 1e15:
        return f"{value:.{count}g}"
    text = f"{float(f'{value:.{count}g}'):,.{count}f}".rstrip("0").rstrip(".")
    return text if abs(value) >= 1e-3 or not value else f"{value:.{count}g}"


def fill(
    sheet: Sheet, asked: Asked, solved: Solved, high: Solved | None, corpus: Any, more: dict[str, Any]
) -> None:
    """Everything but distributions."""
    data: dict[str, Any] = {}
    for unit in NAMES:
        bits = solved.bits.get(unit)
        data[f"nats_per_{unit}"] = None if bits is None else float(nats_of_bits(bits))
        data[f"bits_per_{unit}"] = bits
        data[PERPLEXITY[unit]] = None if bits is None or bits > MOST else float(perplexity_of_bits(bits))
        data[f"bits_per_{unit}_range"] = span(unit, solved, high)
    per_byte, total = solved.bits.get("byte"), solved.bits.get("text")
    data["mean_probability"] = 1 / data["perplexity"] if data["perplexity"] else None
    data["compression_ratio"] = None if per_byte is None else float(compression_share(per_byte))
    data["compression_factor"] = float(compression_factor(per_byte)) if per_byte else None
    data["total_bits"], data["total_nats"] = total, None if total is None else float(nats_of_bits(total))
    data["compressed_bytes"] = None if total is None else total / 8
    for name, unit in COUNTS.items():
        found = asked.amounts.number(unit)
        data[name] = None if found is None else round(found[0]) if float(found[0]).is_integer() else found[0]
    for name, (unit, other) in RATIOS.items():
        ratio = asked.amounts.per(unit, other)
        data[name] = None if ratio is None else ratio[0]
    data["grades"] = {unit: solved.grades[unit] for unit in solved.grades}
    data["text"] = None
    if asked.text is not None:
        data["text"] = {
            "bytes": asked.text.bytes,
            "characters": asked.text.characters,
            "words": asked.text.words,
            "split_words": asked.text.split_words,
        }
    data["assumed"] = asked.assumed or None
    data["parts"] = None
    if corpus is not None:
        data["parts"] = {"count": len(corpus.parts), "mean_perplexity": corpus.mean_perplexity}
    sheet.data |= {**data, **more}
    _header(sheet, asked, corpus)
    _measures(sheet, solved, data)
    _facts(sheet, asked, solved, data, corpus)
    _amounts(sheet, asked, data)
    sheet.hints += doubts(solved, more.get("vocabulary"))
    sheet.frame = [
        {"quantity": key, "value": value, "grade": _grade(key, data["grades"])}
        for key, value in sheet.data.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def _grade(key: str, grades: dict[str, str]) -> str:
    for unit in ("character", "byte", "word", "token"):
        if key.endswith(f"_per_{unit}") or key == PERPLEXITY[unit]:
            return grades.get(unit, "")
    return grades.get("byte", "") if key.startswith("compression") else ""


def _header(sheet: Sheet, asked: Asked, corpus: Any) -> None:
    """The echo of what was given."""
    shown = []
    if corpus is not None:
        shown.append(f"{len(corpus.parts):,} parts")
    for name in (*MEASURES, *COUNTS, *RATIOS):
        value = asked.given.get(name)
        if value is not None and not isinstance(value, (list, tuple)):
            shown.append(f"{name.replace('_', ' ')} {str(value).strip()[:24]}")
    if asked.text is not None:
        shown.append(f"text of {asked.text.bytes:,} bytes")
    for name in ("tokenizer", "language"):
        if asked.assumed.get(name):
            shown.append(f"{name} {asked.assumed[name]}")
    sheet.header = shown or ["text metrics"]


def _measures(sheet: Sheet, solved: Solved, data: dict[str, Any]) -> None:
    rows = []
    for unit in NAMES:
        bits = solved.bits.get(unit)
        if bits is None:
            continue
        perplexity = data[PERPLEXITY[unit]]
        rows.append(
            [
                unit,
                digits(data[f"nats_per_{unit}"]),
                digits(bits),
                f"2^{bits:,.0f}" if perplexity is None else digits(perplexity),
                solved.grades[unit],
            ]
        )
    if rows:
        sheet.tables.append(Table("", ["per", "nats", "bits", "perplexity", "grade"], rows))


def _facts(sheet: Sheet, asked: Asked, solved: Solved, data: dict[str, Any], corpus: Any) -> None:
    """Sentences about the figures."""
    add = sheet.facts.append
    per_byte = solved.bits.get("byte")
    if data["perplexity"]:
        bits = solved.bits["token"]
        add(
            Fact(
                "perplexity",
                digits(data["perplexity"]),
                f"one in {digits(data['perplexity'])}: as if choosing evenly among so many tokens",
                solved.grades["token"],
                "perplexity_of_bits",
                {"bits": bits},
            )
        )
    for unit, name in (("byte", "bits per byte"), ("character", "bits per char."), ("word", "bits per word")):
        bounds = data[f"bits_per_{unit}_range"]
        if unit in solved.bits:
            note = f"range {digits(bounds[0], 4)} to {digits(bounds[1], 4)}" if bounds else ""
            inputs = _unit_inputs(asked, solved, unit)
            add(
                Fact(
                    name,
                    digits(solved.bits[unit]),
                    note,
                    solved.grades[unit],
                    "bits_per_unit" if inputs else "",
                    inputs,
                )
            )
    if per_byte:
        note = f"{digits(data['compression_factor'])} times smaller; the model itself not counted"
        add(
            Fact(
                "compressed to",
                f"{digits(100 * data['compression_ratio'], 4)} %",
                note,
                solved.grades["byte"],
                "compression_share",
                {"bits_per_byte": per_byte},
            )
        )
    if data["total_bits"] is not None:
        note = f"{digits(data['total_nats'], 6)} nats, {digits(data['compressed_bytes'], 6)} bytes"
        add(Fact("whole text", f"{digits(data['total_bits'], 6)} bits", note, solved.grades["text"]))
    if corpus is not None and corpus.mean_perplexity is not None and data["perplexity"]:
        add(
            Fact(
                "mean of parts",
                digits(corpus.mean_perplexity),
                "mean of the parts' own perplexities, which is not "
                "the corpus's: losses are averaged by tokens, then raised",
                "",
            )
        )


def _unit_inputs(asked: Asked, solved: Solved, unit: str) -> dict[str, Any]:
    """Arguments of `bits_per_unit`, where the measure was of another unit."""
    if solved.base is None or solved.base[1] == unit:
        return {}
    found = asked.amounts.per(unit, solved.base[1])
    return {} if found is None else {"bits": solved.base[2], "units": 1, "other_units": found[0]}


def _amounts(sheet: Sheet, asked: Asked, data: dict[str, Any]) -> None:
    """Counts of the text, and ratios."""
    rows = []
    for name, unit in COUNTS.items():
        found = asked.amounts.number(unit)
        if found is not None:
            large = ""
            if name == "bytes" and found[0] >= 1e6:
                large = f"{digits(found[0] / 1e9)} GB, {digits(found[0] / 2**30)} GiB"
            rows.append([name, digits(found[0], 15 if float(found[0]).is_integer() else 6), large, found[1]])
    if rows:
        sheet.tables.append(Table("", ["amount", "number", "", "grade"], rows))
    rows = []
    for name, (unit, other) in RATIOS.items():
        ratio = asked.amounts.per(unit, other)
        if ratio is not None:
            rows.append([f"{name.replace('_', ' ')}", digits(ratio[0]), ratio[2], ratio[1]])
    if rows:
        sheet.tables.append(Table("", ["ratio", "number", "from", "grade"], rows, wrapped=("from",)))
    per_token = data["bytes_per_token"]
    if per_token is not None and per_token < 1:
        sheet.hints.append(
            "There are more tokens than bytes, which no tokenizer makes: are the counts of one text?"
        )
    if asked.text is not None:
        if asked.text.marked:
            sheet.warnings.append(
                "The text begins with a byte order mark, which counts as 3 bytes and a character."
            )
        if asked.text.words and asked.text.split_words != asked.text.words:
            sheet.hints.append(
                f"lm-evaluation-harness counts {asked.text.split_words:,} words here: it counts what "
                "stands before and "
                ""
                "behind the outer white space. For its word perplexity give --words "
                f"{asked.text.split_words}."
            )


def vocabulary_facts(sheet: Sheet, vocabulary: int, nats: float | None) -> None:
    """What guessing evenly costs."""
    loss = float(uniform_loss(vocabulary))
    sheet.data |= {"vocabulary": vocabulary, "uniform_nats_per_token": loss}
    note = f"guessing evenly among {vocabulary:,} tokens"
    if nats is not None:
        note += f"; the model saves {digits(loss - nats, 4)}" if nats <= loss else "; the model does worse"
    sheet.facts.append(
        Fact(
            "uniform loss", f"{digits(loss)} nats", note, "exact", "uniform_loss", {"vocabulary": vocabulary}
        )
    )


def entropy_facts(sheet: Sheet, entropy: float, nats: float) -> None:
    """Divergence of the model from a known entropy."""
    gap = float(divergence(nats, entropy))
    sheet.data |= {"entropy_nats": entropy, "kl_nats": gap}
    sheet.facts.append(
        Fact(
            "divergence",
            f"{digits(gap)} nats",
            f"the loss of {digits(nats)} less an entropy of {digits(entropy)}: "
            "what a better model could still save",
            "derived",
            "divergence",
            {"cross_entropy": nats, "entropy": entropy},
        )
    )


def origin_of(asked: Asked) -> dict[str, str]:
    """Where inputs of formulas come from."""
    base = option(asked.measures[0][0]) if asked.measures else "given"
    return {
        "bits": base,
        "bits_per_byte": "above",
        "units": "1",
        "other_units": "counts or ratios below",
        "vocabulary": "given",
        "cross_entropy": "above",
        "entropy": "--entropy",
    }
