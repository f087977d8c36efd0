"""Every layout of a number of GPUs, estimated: what they have in common is run once.

A row's figures are those that `llmcalc.train` tells of that layout. What one rank runs, what its layers keep,
and the states of a stage are each found once and looked up for all layouts that share them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from llmcalc.answer.training.asked import KEYWORDS, Asked, place, resolve
from llmcalc.answer.training.layout_space import Space
from llmcalc.answer.training.question import Question
from llmcalc.answer.training.reused import PLAIN, Reused, Store
from llmcalc.answer.training.spread import DEGREES, SPREAD
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, LlmcalcError
from llmcalc.formula import is_array
from llmcalc.hardware import Device
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.model.inventory import Inventory

EFFORT = {"none": 0, "selective": 1, "full": 3}
"""What is computed again, from the least; blocks of layers stand between the last two."""

OPEN = (*DEGREES, "sequence_parallel", "stage_layers", "schedule", "global_batch")
"""Keywords that are left open until a layout is chosen."""

Frame = tuple[int, Any, int]
"""Micro-batch, recomputation, and which way of sharing."""

ORDER = {"fits": 0, "too_close": 1, "does_not_fit": 2}


class Row:
    """One layout.

    Attributes
    ----------
    mesh : Mesh
        Its degrees and micro-batches.
    sharing : str
        How data ranks share states.
    option : dict
        The same as keywords.
    gathers : bool
        Whether weights are shared too, and gathered where they are used.
    batch, recompute
        Sequences of a micro-batch; what is computed again. [-]
    total, low, high : int
        Of the worst rank, expected and its range. [B]
    process, process_low, process_high : int
        Of its whole process, which the card must hold. [B]
    rank, phase : str
        Which class of ranks that is, and when its peak is.
    activations : int
        At that peak. [B]
    verdict : str
        ``fits``, ``too_close`` or ``does_not_fit``.
    quick : bool
        Whether figures are sums that leave the allocator's play out, so that `train` tells others.
    """

    __slots__ = (
        "activations", "batch", "gathers", "high", "low", "mesh", "option", "phase", "process",
        "process_high", "process_low", "quick", "rank", "recompute", "sharing", "total", "verdict",
    )  # fmt: skip

    def __init__(
        self, asked: Asked, option: dict[str, Any], gathers: bool, made: Any, quick: bool = False
    ) -> None:
        mesh = asked.mesh
        assert mesh is not None
        self.mesh: Mesh = mesh
        self.sharing, self.option, self.gathers = asked.sharding_name, option, gathers
        self.batch, self.recompute = int(asked.batch), asked.recompute
        self.quick = quick
        self.take(made)

    def take(self, made: Any) -> None:
        """Take the figures of an estimate."""
        self.total, self.low, self.high = int(made.total), int(made.low), int(made.high)
        same = made.whole is made.runtime
        self.process = self.total if same else int(made.process)
        self.process_low = self.low if same else int(made.process_low)
        self.process_high = self.high if same else int(made.process_high)
        self.rank, self.phase = made.rank, made.phase
        self.activations = int(made.shares.get("activations", 0))
        self.verdict = "does_not_fit"

    def judge(self, device: Device) -> None:
        """Hold it against a card."""
        if self.process_high <= device.usable_low:
            self.verdict = "fits"
        else:
            self.verdict = "too_close" if self.process_low <= device.usable_high else "does_not_fit"

    @property
    def degrees(self) -> tuple[int, ...]:
        """tp, pp, vpp, cp, ep, etp and dp."""
        mesh = self.mesh
        return mesh.tp, mesh.pp, mesh.vpp, mesh.cp, mesh.ep, mesh.etp, mesh.dp

    @property
    def activation_share(self) -> float:
        """Share of the total that is kept for the backward pass. [-]"""
        return self.activations / max(self.total, 1)

    @property
    def order(self) -> tuple[Any, ...]:
        """Where it stands in the table: what surely fits, then what costs least time."""
        effort = self.recompute
        return (
            ORDER[self.verdict],
            self.mesh.bubble,
            self.mesh.tp * self.mesh.cp,
            EFFORT.get(effort, 2) if isinstance(effort, str) else 2 + 1 / effort,
            self.gathers,
            self.process,
        )

    @property
    def keywords(self) -> dict[str, Any]:
        """What `llmcalc.train` takes for it beside what was given."""
        mesh = self.mesh
        found: dict[str, Any] = {
            key: getattr(mesh, key) for key in ("tp", "pp", "vpp", "cp", "ep") if getattr(mesh, key) > 1
        }
        if mesh.etp != (1 if mesh.ep > 1 else mesh.tp):
            found["etp"] = mesh.etp
        if mesh.tp > 1:
            found["sequence_parallel"] = "on" if mesh.sequence_parallel else "off"
        recompute = self.recompute if isinstance(self.recompute, str) else f"every-{self.recompute}"
        return {
            **found, **self.option, "micro_batch": self.batch, "grad_accum": mesh.micro_batches,
            "recompute": recompute,
        }  # fmt: skip


class Search:
    """All layouts of a space.

    Parameters
    ----------
    inventory : Inventory
        The model.
    book : Catalog
        For formats and optimizers.
    given : dict
        Keywords of `llmcalc.train`.
    device : Device
        The card.

    Attributes
    ----------
    refused : int
        Layouts that the model or the framework does not allow. [-]
    """

    def __init__(self, inventory: Inventory, book: Catalog, given: dict[str, Any], device: Device) -> None:
        self.inventory, self.book, self.device = inventory, book, device
        self.given = {key: given.get(key) for key in KEYWORDS if key not in ("gpu", "reserve")}
        self.gpus = device.count or 1
        self.refused = 0
        self._question: Question | None = None
        self._store = Store()

    def resolved(self, batch: Any = None, recompute: Any = None, option: Any = None) -> Asked:
        """What was asked on all GPUs as replicas, with another micro-batch, recomputation and sharing."""
        changes: dict[str, Any] = dict.fromkeys(OPEN)
        changes["gpu"] = self.device.name if self.gpus == 1 else None
        changes |= {"dp": self.gpus, "zero": None, "fsdp": None} if self.gpus > 1 else {}
        for key in ("micro_batch", "recompute"):
            if several(self.given[key]):
                changes[key] = None
        if batch is not None:
            changes["micro_batch"] = batch
        if recompute is not None:
            changes["recompute"] = recompute
            if recompute != "selective":
                changes["recompute_modules"] = None
        return resolve(self.inventory, self.book, {**self.given, **changes, **(option or {})})

    def rows(self, space: Space) -> list[Row]:
        """Estimate all layouts of a space.

        Raises
        ------
        LlmcalcError
            If not one of them is allowed: why.
        """
        frames, last = self._all_frames(space)
        found: list[Row] = []
        known: set[Any] = set()
        for outer in space.outer():
            self._store.models.clear()
            for batch in space.batches:
                spread = []
                for place_, option in enumerate(space.sharings):
                    frame = next((frames[k] for k in frames if k[0] == batch and k[2] == place_), None)
                    if frame is None:
                        continue
                    for asked in self._spread(space, outer, frame, option):
                        if isinstance(asked, LlmcalcError):
                            self.refused, last = self.refused + 1, asked
                            continue
                        mesh = asked.mesh
                        key = (batch, outer, mesh.pp, mesh.vpp, mesh.dp, asked.sharding_name)
                        if key not in known:  # two words for one thing
                            known.add(key)
                            spread.append((asked, place_))
                for recompute in space.recompute:
                    found += self._estimated(spread, space, frames, batch, recompute)
        if not found:
            raise last or _none(space)
        return found

    def refine(self, row: Row) -> None:
        """Give a quick row the figures that `train` tells."""
        lists = (*DEGREES, "micro_batch", "recompute")
        settings = {
            key: None if key in lists and several(value) else value for key, value in self.given.items()
        }
        settings |= {"zero": None, "fsdp": None, "global_batch": None, **row.keywords, "dp": row.mesh.dp}
        if settings["recompute"] != "selective":
            settings["recompute_modules"] = None
        asked = resolve(self.inventory, self.book, settings | {"gpu": None, "reserve": None})
        row.take(Question(self.inventory, asked, self.book, self.device).estimate())
        row.judge(self.device)
        row.quick = False

    def _all_frames(self, space: Space) -> tuple[dict[Frame, Asked], LlmcalcError | None]:
        """Everything but the layout, for each micro-batch, recomputation and sharing that go together."""
        found, last = {}, None
        for batch in space.batches:
            for recompute in space.recompute:
                for number, option in enumerate(space.sharings):
                    try:
                        found[batch, recompute, number] = self.resolved(batch, recompute, option)
                    except LlmcalcError as error:
                        last = last or error
        return found, last

    def _spread(
        self, space: Space, outer: tuple[int, bool, int, int, int], frame: Asked, option: dict[str, Any]
    ) -> Iterator[Any]:
        """Layouts that share what one rank runs, or why they can't be."""
        tp, parallel, cp, ep, etp = outer
        blank = {key: self.given.get(key) for key in SPREAD} | {"zero": None, "fsdp": None}
        for pp, vpp, dp in space.inner(tp, cp, self.inventory.layers):
            if space.global_batch and space.global_batch % (int(frame.batch) * dp):
                self.refused += 1
                continue
            degrees = {
                "tp": tp, "pp": pp, "vpp": vpp, "cp": cp, "ep": ep, "etp": etp, "dp": dp,
                "sequence_parallel": "on" if parallel else "off", "global_batch": space.global_batch,
            }  # fmt: skip
            asked = copy.copy(frame)
            asked.values, asked.origins, asked.notes = dict(frame.values), dict(frame.origins), []
            try:
                place(asked, self.inventory, {**blank, **degrees, **option}, space.gpus)
            except LlmcalcError as error:
                yield error
                continue
            yield asked

    def _estimated(
        self, spread: Sequence[tuple[Asked, int]], space: Space, frames: dict[Frame, Asked], batch: int,
        recompute: Any,
    ) -> Iterator[Row]:  # fmt: skip
        """Layouts with one recomputation."""
        runs: dict[Any, Reused] = {}
        for one, number in spread:
            frame = frames.get((batch, recompute, number))
            if frame is None:
                self.refused += 1
                continue
            asked = copy.copy(one)
            asked.recompute, asked.modules = frame.recompute, frame.modules
            ranks = self._ranks(asked, number, runs)
            made, gathers = ranks.worst(asked)
            row = Row(asked, space.sharings[number], gathers, made, ranks.quick)
            row.judge(self.device)
            yield row

    def _ranks(self, asked: Asked, number: int, runs: dict[Any, Reused]) -> Reused:
        """What one rank runs, which layouts share."""
        plain = type(asked.sharding(asked)) in PLAIN
        key = asked.accumulate > 1, -1 if plain else number
        found = runs.get(key)
        if found is None:
            if self._question is None:
                self._question = Question(self.inventory, asked, self.book, self.device)
            question = copy.copy(self._question)
            question.asked, question._states = asked, None
            found = runs[key] = Reused(question, self._store, key[1])
        return found


def _none(space: Space) -> InputError:
    """Why there is not one layout."""
    if space.global_batch and any(True for outer in space.outer()):
        return InputError(
            f"No layout divides {space.global_batch:,} sequences a step among its replicas.",
            "Use another --global-batch, or a smaller --micro-batch.",
        )
    return InputError(
        f"No layout of these degrees uses all {space.gpus:,} GPUs.",
        f"Make tp x pp x cp x dp {space.gpus}, or leave some of them out.",
    )


def several(value: Any) -> bool:
    """Whether a keyword names several values."""
    return is_array(value) or (isinstance(value, str) and "," in value)


__all__ = ["Row", "Search", "several"]
