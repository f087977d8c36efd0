"""What would make a training step fit, each change estimated anew, the cheapest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.answer.training.asked import Asked, resolve
from llmcalc.answer.training.question import Question
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.formula import is_array
from llmcalc.hardware import Device, smallest_cards
from llmcalc.model.inventory import Inventory
from llmcalc.planning.levers import FREE, QUALITY, REACH, SPEED, WORKLOAD, Lever
from llmcalc.report import Report
from llmcalc.units import MIB, format_bytes, parse_integer

WORTH = 64 * MIB
"""A change that gains less is not told. [B]"""

MOST = 6
"""Changes that are told."""


def levers(asked: Asked, given: dict[str, Any]) -> list[Lever]:
    """The settings that could help, from the cheapest to the dearest."""
    found = []

    def add(changes: dict[str, Any], cost: int, price: str) -> None:
        found.append(Lever(changes, cost, price))

    name, full = asked.optimizer.name, not asked.choice.leaves_model
    if name == "adamw":
        add({"optimizer": "adamw-fused"}, FREE, "costs nothing: the same update in place")
    if asked.attention == "eager":
        add({"attention": "flash"}, FREE, "costs nothing: the same result, faster")
    if asked.loss == "eager":
        add({"loss": "chunked"}, FREE, "a little slower loss")
        add({"loss": "fused"}, FREE, "needs a fused kernel such as Liger's")
    if asked.ema:
        add({"ema": None}, REACH, "no averaged weights")
    if asked.upcast:
        add(
            {"kbit_upcast": "off"},
            REACH,
            "norms, embeddings and head stay in 16 bit, as other frameworks keep them",
        )
    if asked.recompute == "none":
        add({"recompute": "selective"}, SPEED, "attention is computed twice")
    if asked.recompute != "full":
        add({"recompute": "full"}, SPEED, "about a third more compute")
    if not asked.in_backward and asked.accumulate == 1 and full:
        add({"optimizer_in_backward": True}, SPEED, "no gradient accumulation, no clipping of the whole norm")
    if "optimizer" not in asked.offload and not asked.in_backward:
        add(
            {"offload": ",".join(sorted({*asked.offload, "optimizer"}))},
            SPEED,
            "states on the host: slower steps",
        )
    if name in ("adamw", "adamw-fused", "adamw-loop"):
        add({"optimizer": "paged-adamw-8bit"}, QUALITY, "states in 8 bit, on the host where need be")
        add({"optimizer": "adamw-8bit"}, QUALITY, "states in 8 bit, accuracy to be tested")
    if asked.recipe.name in ("bf16-mixed", "fp16-mixed", "fp32", "megatron-bf16", "fp8") and full:
        add({"precision": "bf16"}, QUALITY, "updates are rounded to 16 bit")
    if not is_array(asked.batch) and asked.batch > 1:
        half = max(asked.batch // 2, 1)
        more = {} if asked.in_backward else {"grad_accum": asked.accumulate * asked.batch}
        add({"micro_batch": 1, **more}, SPEED, "the same batch in more passes" if more else "a smaller batch")
        if half > 1 and not asked.in_backward:
            add(
                {"micro_batch": half, "grad_accum": 2 * asked.accumulate},
                SPEED,
                "the same batch in more passes",
            )
    if not is_array(asked.seq) and asked.seq > 2048:
        add({"seq_len": asked.seq // 2}, WORKLOAD, "longer samples are cut")
    if full and asked.method == "full":
        add({"method": "lora"}, WORKLOAD, "trains adapters, not the model")
    if asked.method in ("full", "lora") and asked.scheme is None:
        add({"method": "qlora"}, WORKLOAD, "trains adapters over a base in 4 bit, slower")
    return found


Trial = Callable[[dict[str, Any]], "tuple[int, int] | None"]
"""Expected total and the high end with other settings; None where it can't be. [B]"""


def layout_levers(asked: Asked, given: dict[str, Any]) -> list[Lever]:
    """The settings of several GPUs that could help; batches stay as they are."""
    found: list[Lever] = []
    mesh = asked.mesh
    if mesh is None:
        return found

    def add(changes: dict[str, Any], cost: int, price: str) -> None:
        found.append(Lever(changes, cost, price))

    if mesh.tp > 1 and not mesh.sequence_parallel:
        add({"sequence_parallel": "on"}, FREE, "tensor ranks share the tokens too, with the same traffic")
    if mesh.tp > 1 and asked.loss == "eager":
        add({"loss": "vocab-parallel"}, FREE, "each tensor rank keeps its own part of the logits")
    fsdp = str(given.get("fsdp") or "off").lower() not in ("0", "off", "none", "false", "no")
    stage = int(given["zero"]) if str(given.get("zero") or "").isdigit() else 0
    if asked.implementation == "megatron":
        if given.get("zero") is not None and stage == 0:
            add({"zero": None}, FREE, "the distributed optimizer: the same traffic")
    elif mesh.replicas > 1 and not fsdp and given.get("deepspeed") is None:
        for more in range(stage + 1, 4):
            gathers = "weights are gathered in each pass: half as much traffic again"
            add({"zero": more}, SPEED if more == 3 else FREE, gathers if more == 3 else "the same traffic")
        if stage == 0:
            add({"fsdp": 2}, SPEED, "weights are gathered in each pass: half as much traffic again")
    if mesh.vpp > 1:
        add({"vpp": None}, SPEED, "one chunk a stage: a larger bubble")
    for key, most, price in (
        ("tp", mesh.per_node, "activations are exchanged in every layer"),
        ("pp", asked.accumulate, "a larger bubble"),
        (
            "cp",
            1 << 20 if not is_array(asked.seq) and asked.seq >= LONG else 0,
            "keys and values are exchanged",
        ),
    ):
        more = 2 * getattr(mesh, key)
        if mesh.dp % 2 == 0 and more <= most:
            same = {} if given.get("global_batch") is not None or asked.in_backward else {
                "grad_accum": 2 * asked.accumulate
            }  # fmt: skip
            add({key: more, **same}, SPEED, price)
    return found


LONG = 32_768
"""Sequences that context ranks are worth while for. [tokens]"""


class _Trial:
    """The same question with other settings, on as many GPUs."""

    def __init__(
        self, inventory: Inventory, device: Device, book: Catalog, given: dict[str, Any], others: list[Any],
        gpus: int = 1,
    ) -> None:  # fmt: skip
        self.inventory, self.device, self.book, self.others = inventory, device, book, others
        self.given = {key: value for key, value in given.items() if key not in ("gpu", "reserve")}
        self.gpus = gpus

    def __call__(self, changes: dict[str, Any]) -> tuple[int, int] | None:
        """Expected total and the high end; None where it can't be."""
        given = {**self.given, **changes}
        if "seq_len" in changes:
            given["context"] = None
        if changes.get("method") in ("lora", "qlora"):
            given |= dict.fromkeys(("trainable", "freeze", "last_layers", "optimizer_in_backward"))
        try:
            if self.gpus > 1:
                shared = 1
                for key in ("tp", "pp", "cp"):
                    shared *= parse_integer(given[key], key) if given.get(key) is not None else 1
                given["dp"] = max(self.gpus // shared, 1)
            asked = resolve(self.inventory, self.book, given)
            made = Question(self.inventory, asked, self.book, self.device, self.others).estimate()
        except LlmcalcError:
            return None
        return int(made.process), int(made.process_high)


def help_it(
    report: Report,
    inventory: Inventory,
    asked: Asked,
    device: Device,
    book: Catalog,
    given: dict[str, Any],
    others: list[Any],
) -> None:
    """Add what would help to a report that does not surely fit its GPU."""
    if is_array(report.total_bytes):
        return
    if not inventory.is_opaque:
        gpus = 1 if asked.mesh is None else asked.mesh.gpus
        offered = levers(asked, given) + layout_levers(asked, given)
        offer(report, _Trial(inventory, device, book, given, others, gpus), offered, device)
    report.told.cards = smallest_cards(int(report.range_bytes[1]) + asked.reserve, book)


def offer(report: Report, trial: Trial, offered: list[Lever], device: Device) -> None:
    """Each change alone; where none is enough, the cheapest that are together."""
    before, rows = int(report.total_bytes), []
    for lever in offered:
        made = trial(lever.changes)
        if made is not None and before - made[0] >= WORTH:
            rows.append((lever, made, _verdict(made, device)))
    enough = [row for row in rows if row[2] == "fits"]
    if not enough:
        together = _together(trial, [row[0] for row in rows], device, before)
        if together is not None:
            rows.insert(0, together)
    order = {"fits": 0, "too_close": 1, "does_not_fit": 2}
    rows.sort(key=lambda row: (order[row[2]], row[0].cost))
    for lever, made, verdict in rows[:MOST]:
        gain = before - made[0]
        report.told.alternatives.append(
            {
                "change": lever.option,
                "keywords": dict(lever.changes),
                "gain_bytes": gain,
                "verdict": verdict,
                "price": lever.price,
            }
        )
        words = {"fits": "fits", "too_close": "too close to call", "does_not_fit": "not enough alone"}[
            verdict
        ]
        report.told.advice.append(f"{lever.option}: {format_bytes(gain)} less, {words}; {lever.price}")


def _verdict(made: tuple[int, int], device: Device) -> str:
    if made[1] <= device.usable_low:
        return "fits"
    return "does_not_fit" if made[0] > device.usable_high else "too_close"


def _together(trial: Trial, offered: list[Lever], device: Device, before: int) -> Any:
    """Changes added from the cheapest on until it fits; a later setting of one keyword wins."""
    changes: dict[str, Any] = {}
    dearest, last = FREE, before
    for lever in sorted(offered, key=lambda one: one.cost):
        if "method" in lever.changes and "method" in changes:
            changes.pop("method")
        made = trial({**changes, **lever.changes})
        if made is None or made[0] >= last:
            continue
        changes |= lever.changes
        dearest, last = max(dearest, lever.cost), made[0]
        if _verdict(made, device) == "fits":
            return Lever(changes, dearest, "together, the cheapest first"), made, "fits"
    return None
