"""The cost of serving at a stated throughput: a million tokens, an answer, all requests."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.cost.asked import Asked
from llmcalc.compute import cost as leaf
from llmcalc.report.figures import Figures


def serving_answer(answer: Figures, asked: Asked) -> None:
    """Fill in what tokens and answers cost."""
    price = asked.price
    assert price is not None
    gpus = asked.gpu.gpus if asked.gpu is not None else 1
    money = price.currency
    grade = "derived" if price.grade == "exact" else "assumed"
    answer.add("gpu_hour_price", price.value, f"{money}/GPU-h", label="GPU-hour", low=price.low,
               high=price.high, section="price", grade=price.grade, source=price.source,
               note=price.note)  # fmt: skip
    million, low, high = (
        float(leaf.price_per_million(one, gpus, asked.throughput, asked.busy))
        for one in (price.value, price.low, price.high)
    )
    busy = f", busy {100 * asked.busy:.0f} % of the time" if asked.busy < 1 else ""
    plural = "s" if gpus > 1 else ""
    inputs = {"price": price.value, "gpus": gpus, "throughput": asked.throughput, "busy": asked.busy}
    how: dict[str, Any] = {"formula": "price_per_million", "inputs": inputs, "grade": grade}
    answer.add("price_per_million", million, money, label="a million tokens", low=low, high=high,
               section="price", note=f"{asked.throughput:,.0f} tokens/s on {gpus:,} GPU{plural}{busy}",
               **how)  # fmt: skip
    if asked.output:
        _answers(answer, asked, million, low, high, money, grade)
    if asked.tokens is not None:
        made = asked.tokens * asked.samples
        scale = made / 1e6
        hours = made / (asked.throughput * asked.busy) * gpus / 3600
        answer.add("gpu_hours", hours, "GPU-h", label="GPU-hours", section="all", grade="derived")
        answer.add("price", million * scale, money, label="all tokens", low=low * scale, high=high * scale,
                   section="all", grade=grade, note=f"{made:,} tokens")  # fmt: skip


def _answers(
    answer: Figures, asked: Asked, million: float, low: float, high: float, money: str, grade: str
) -> None:
    """What one answer takes: reasoning before it, and all that are drawn to choose from."""
    made = (asked.reasoning + asked.output) * asked.samples
    factor = made / asked.output
    parts = [
        f"{asked.reasoning:,} of reasoning + {asked.output:,}" if asked.reasoning else f"{asked.output:,}"
    ]
    parts += [f"x {asked.samples:,} samples"] if asked.samples > 1 else []
    answer.add("tokens_per_answer", made, "tokens", label="tokens of an answer", section="answers",
               note=" ".join(parts))  # fmt: skip
    if factor > 1:
        answer.add("multiplier", factor, "x", label="tokens made for each shown", section="answers")
        shown = [one * factor for one in (million, low, high)]
        answer.add("price_per_million_shown", shown[0], money, label="a million tokens shown", low=shown[1],
                   high=shown[2], section="answers", grade=grade)  # fmt: skip
    each = [one * made / 1e6 for one in (million, low, high)]
    answer.add("price_per_answer", each[0], money, label="one answer", low=each[1], high=each[2],
               section="answers", grade=grade)  # fmt: skip
    if asked.requests is not None:
        every = [one * asked.requests for one in each]
        answer.add("price_requests", every[0], money, label="all requests", low=every[1], high=every[2],
                   section="answers", grade=grade, note=f"{asked.requests:,} answers")  # fmt: skip
        gpus = asked.gpu.gpus if asked.gpu is not None else 1
        seconds = made * asked.requests / (asked.throughput * asked.busy)
        answer.add("gpu_hours", seconds * gpus / 3600, "GPU-h", label="GPU-hours", section="answers",
                   grade="derived")  # fmt: skip
