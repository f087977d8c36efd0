"""What would make an iteration fit, each change estimated anew, the cheapest first."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.advice import levers, offer
from llmcalc.answer.training.rl.question import RlQuestion
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.hardware import smallest_cards
from llmcalc.planning.levers import QUALITY, REACH, SPEED, Lever
from llmcalc.report import Report
from llmcalc.units import parse_decimal

NOT_HERE = ("seq_len", "offload")
"""Keywords of a plain step that an iteration sets otherwise."""


def rl_levers(question: RlQuestion, given: dict[str, Any]) -> list[Lever]:
    """The settings that could help, from the cheapest to the dearest."""
    rl, asked = question.rl, question.asked
    found: list[Lever] = []
    own = rl.engine in ("vllm", "sglang") and "rollout" not in rl.apart
    if own and not rl.level:
        found.append(Lever({"sleep": "on"}, SPEED, "the engine is put to sleep and woken each iteration"))
    if own and rl.share is not None:
        found += [
            Lever({"gpu_memory_utilization": share}, REACH, "fewer answers run at once")
            for share in (0.5, 0.3, 0.2)
            if share < _number(rl.share)
        ]
    if own and not rl.eager:
        found.append(Lever({"enforce_eager": True}, SPEED, "slower answers, no CUDA graphs"))
    for words, price in (
        (("optimizer",), "states move to the host and back each iteration"),
        (("optimizer", "params"), "weights and states move to the host and back"),
        (("reference",), "the reference moves to the GPU for its pass alone"),
    ):
        if set(words) <= rl.waiting or (words == ("reference",) and rl.reference is None):
            continue
        found.append(Lever({"idle_offload": ",".join(sorted({*rl.waiting, *words}))}, SPEED, price))
    if rl.reference is not None:
        found.append(Lever({"reference": "none"}, QUALITY, "nothing holds the policy near its start"))
    for lever in levers(asked, given):
        if not any(key in NOT_HERE for key in lever.changes) and lever.changes.get("loss") != "chunked":
            found.append(lever)
    return found


def _number(share: str) -> float:
    above, below = parse_decimal(share) or (1, 1)
    return above / below


class _Trial:
    """The same iteration with other settings."""

    def __init__(self, question: RlQuestion, asked: dict[str, Any], book: Catalog) -> None:
        self.question, self.asked, self.book = question, asked, book

    def __call__(self, changes: dict[str, Any]) -> tuple[int, int] | None:
        """Expected total and the high end; None where it can't be."""
        from llmcalc.answer.training.rl.ask import understand

        asked = {**self.asked, **changes}
        if changes.get("method") in ("lora", "qlora"):
            asked |= dict.fromkeys(("trainable", "freeze", "last_layers", "optimizer_in_backward"))
        source = tuple(asked[key] for key in ("model", "params", "config", "assume"))
        try:
            inventory, training, rl, models = understand(source, asked, self.book)
            trial = RlQuestion(inventory, training, rl, self.book, self.question.device, models, asked)
            made = trial.estimate()
        except LlmcalcError:
            return None
        if made.engine is not None and made.engine.is_own and not made.engine.starts:
            return None
        return int(made.process), int(made.process_high)


def help_it(report: Report, question: RlQuestion, asked: dict[str, Any], book: Catalog) -> None:
    """Add what would help to a report that does not surely fit its GPU."""
    device = question.device
    assert device is not None
    offer(report, _Trial(question, asked, book), rl_levers(question, asked), device)
    report.told.cards = smallest_cards(int(report.range_bytes[1]) + question.asked.reserve, book)
