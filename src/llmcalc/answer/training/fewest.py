"""The least number of GPUs of one type that surely holds a training step, and the layout there."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.asked import Asked, resolve
from llmcalc.answer.training.layout_space import INTERLEAVED, Space, space_of
from llmcalc.answer.training.layouts import Search
from llmcalc.answer.training.question import Question
from llmcalc.answer.training.spread import DEGREES, SPREAD
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.estimate import add_up
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.model.inventory import Inventory

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Numbers of GPUs that are tried. [-]"""

Found = dict[str, Any]


def fewest_gpus(
    inventory: Inventory, asked: Asked, device: Device, book: Catalog, given: dict[str, Any], others: Any
) -> Found | None:
    """The least number of GPUs that surely holds a step of the same micro-batches; None up to 1,024.

    Returns
    -------
    dict or None
        ``gpus``, degrees, ``sharing``; ``close``: a smaller number that is too close to call, else None;
        ``headroom_bytes``; ``keywords`` for `llmcalc.train`.
    """
    values = asked.batch, asked.seq, asked.choice.rank
    alone = " MIG " in device.name or device.vendor == "Apple"  # these do not talk to each other
    if others or alone or inventory.is_opaque or any(map(is_array, values)):
        return None
    bare = {**given, **dict.fromkeys(DEGREES), "stage_layers": None, "global_batch": None}
    bare |= {"micro_batch": int(asked.batch), "grad_accum": asked.accumulate}
    least = _least(inventory, bare, book, asked)
    close: int | None = None
    for count in COUNTS:
        if least > count * device.usable_high:
            continue
        found, is_close = _one(inventory, bare, book, device) if count == 1 else _many(
            inventory, bare, book, device, count, asked
        )  # fmt: skip
        if found is not None:
            return found | {"close": close}
        if is_close and close is None:
            close = count
    return None


def _alone(bare: dict[str, Any]) -> dict[str, Any]:
    return {**bare, **dict.fromkeys(SPREAD), "gpu": None, "reserve": None}


def _least(inventory: Inventory, bare: dict[str, Any], book: Catalog, asked: Asked) -> int:
    """What all GPUs together hold at the least: the states once. [B]"""
    if asked.offload:
        return 0
    states = Question(inventory, asked, book).whole()
    return int(add_up(states.weights.values()) + states.master + add_up(states.optimizer.values()))


def _one(
    inventory: Inventory, bare: dict[str, Any], book: Catalog, device: Device
) -> tuple[Found | None, bool]:
    """One GPU: where it fits, and whether it is close."""
    try:
        asked = resolve(inventory, book, _alone(bare))
        made = Question(inventory, asked, book, device).estimate()
    except LlmcalcError:
        return None, False
    if made.process_high <= device.usable_low:
        left = int(device.usable_bytes - made.process)
        found = {"gpus": 1, **dict.fromkeys(("tp", "pp", "cp", "ep", "dp"), 1), "sharing": ""}
        return found | {"headroom_bytes": left, "keywords": {}}, False
    return None, bool(made.process_low <= device.usable_high)


def _many(
    inventory: Inventory, bare: dict[str, Any], book: Catalog, device: Device, count: int, asked: Asked
) -> tuple[Found | None, bool]:
    """So many GPUs: the best layout that fits, and whether one is close."""
    import copy

    cluster = copy.copy(device)
    cluster.count = count
    try:
        search = Search(inventory, book, bare, cluster)
        rows = search.rows(_space(space_of(asked, bare, inventory, count), asked))
    except LlmcalcError:
        return None, False
    best = min(rows, key=lambda row: row.order)
    while best.quick:
        search.refine(best)
        best = min(rows, key=lambda row: row.order)
    if best.verdict != "fits":
        return None, bool(best.verdict == "too_close")
    mesh = best.mesh
    degrees = {name: getattr(mesh, name) for name in ("tp", "pp", "cp", "ep", "dp")}
    return {
        "gpus": count, **degrees, "sharing": best.sharing,
        "headroom_bytes": int(device.usable_bytes - best.process), "keywords": best.keywords,
    }, False  # fmt: skip


def _space(space: Space, asked: Asked) -> Space:
    """Degrees alone: the same micro-batches, recomputation as asked, whole sequences where they were."""
    space.batches, space.recompute, space.global_batch = (int(asked.batch),), (asked.recompute,), None
    space.vpp = (1,)
    space.cp = (asked.mesh.cp,) if asked.mesh is not None else (1,)
    if len(space.parallel) > 1:
        space.parallel = (asked.implementation in INTERLEAVED,)
    return space
