"""What the caching allocator reserves beyond what is allocated, from a step played through it."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, ceil_div, is_array, larger


def allocator_slack(
    question: Any, model: Any, plan: Any, made: Any, sharding: Any
) -> tuple[Quantity, ...] | None:
    """Low, expected and high; None where what is taken in which order is not known. [B]

    Parameters
    ----------
    question : Question
        What was asked. It remembers the share, so that other batches and lengths need no step of their own.
    model : Inventory
        One tensor rank's part of the model.
    plan : Training
        How the step is run.
    made : Estimate
        What is allocated.
    sharding : Sharding
        How several GPUs share states.

    Notes
    -----
    Half to one and a half times what is played: streams run ahead of each other, and kernels differ.
    """
    if not sharding.replays or question.asked.metric == "memtracker":
        return None
    if question.slack is None:
        question.slack = _share(question, model, plan, made, sharding)
    more, allocated = question.slack
    if not allocated:
        return None
    middle = ceil_div(made.allocated * more, allocated)
    return middle // 2, middle, ceil_div(3 * middle, 2)


BESIDE = {True: (-2, 0, 5), False: (0, 2, 8)}
"""What is reserved beyond a step that was played, or beyond the sum of its streams: order and sizes of
tensors are those of a framework's code, but not of every library that it calls. [% of reserved]"""


def pools_slack(allocated: Quantity, reserved: Quantity, played: bool) -> tuple[Quantity, ...]:
    """Low, expected and high of what all streams' pools keep beside the peak. [B]"""
    more = larger(reserved - allocated, 0)
    low, middle, high = (more + ceil_div((allocated + more) * share, 100) for share in BESIDE[played])
    return larger(low, 0), middle, high


def _share(question: Any, model: Any, plan: Any, made: Any, sharding: Any) -> tuple[int, int]:
    """Bytes that are reserved beyond so many allocated ones. [B]"""
    asked = question.asked
    blocks = not isinstance(plan.recompute, str) or plan.recompute.startswith("first-")
    arrays = is_array(made.allocated) or is_array(plan.batch) or is_array(plan.seq)
    if blocks or asked.mesh.pp > 1 or arrays or asked.compile or question.others or asked.in_backward:
        return 0, 0
    from llmcalc.memory.training.branches import replaced
    from llmcalc.memory.training.replay import replay
    from llmcalc.memory.training.stretches import Model

    run = Model(model, replaced(plan, logs=True))
    run.run()
    keeps = not asked.takes_gradients and not plan.accumulates
    total = replay(run, sharding, keeps, asked.expandable) + sharding.beside()
    return max(total - int(made.allocated), 0), int(made.allocated)
