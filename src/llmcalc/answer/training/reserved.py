"""What the caching allocator reserves beyond what is allocated, from a step played through it."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, ceil_div, is_array

UNKNOWN = ("half", "one and a half times")
"""How far from what is played the allocator may be: streams run ahead, and kernels differ."""


def allocator_slack(question: Any, ranks: Any, sharding: Any, made: Any) -> tuple[Quantity, ...] | None:
    """Low, expected and high; None where what is taken in which order is not known. [B]

    Parameters
    ----------
    question : Question
        What was asked. It remembers the share, so that other batches and lengths need no step of their own.
    ranks : Ranks
        One tensor rank's part of the model.
    sharding : Sharding
        What it takes.
    made : Estimate
        What is allocated.
    """
    if not sharding.replays or question.asked.metric == "memtracker":
        return None
    if question.slack is None:
        question.slack = _share(question, ranks, sharding, made)
    more, allocated = question.slack
    if not allocated:
        return None
    middle = ceil_div(made.allocated * more, allocated)
    return middle // 2, middle, ceil_div(3 * middle, 2)


def _share(question: Any, ranks: Any, sharding: Any, made: Any) -> tuple[int, int]:
    """Bytes that are reserved beyond so many allocated ones. [B]"""
    from llmcalc.memory.training.branches import replaced
    from llmcalc.memory.training.replay import replay
    from llmcalc.memory.training.stretches import Model

    asked, plan = question.asked, ranks.plan
    plain = isinstance(plan.recompute, str) and ranks.other is None and ranks.mesh.pp == 1
    if not plain or asked.compile or is_array(made.allocated) or is_array(plan.batch) or is_array(plan.seq):
        return 0, 0
    model = Model(ranks.model, replaced(plan, logs=True))
    model.run()
    keeps = not sharding.takes_gradients and not plan.accumulates
    total = replay(model, sharding, keeps, asked.expandable) + sharding.beside()
    return max(total - int(made.allocated), 0), int(made.allocated)
