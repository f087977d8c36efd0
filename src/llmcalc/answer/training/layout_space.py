"""Which layouts of a number of GPUs are tried: the values of each degree and setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmcalc.answer.training.settings import read_recompute
from llmcalc.answer.training.words import flag
from llmcalc.errors import InputError, LlmcalcError
from llmcalc.formula import is_array
from llmcalc.memory.training.parallel.mesh import Mesh, check_mesh
from llmcalc.model.inventory import Inventory
from llmcalc.placement import divisors
from llmcalc.units import parse_integer, shown

NODE = 8
"""GPUs of one machine: tensor ranks are not tried beyond. [-]"""

CHUNKS = 8
"""Chunks of a stage that are tried at most. [-]"""

LONG = 32_768
"""Sequences of so many tokens and more are shared among context ranks too. [tokens]"""

PART = 8_192
"""Tokens of a sequence that a context rank keeps at the least. [tokens]"""

BATCHES = (1, 2, 4, 8)
RECOMPUTE = ("none", "selective", "full")
INTERLEAVED = ("megatron", "torchtitan")
"""Whose pipelines run several chunks a stage."""

SHARINGS = ("zero", "fsdp", "deepspeed", "accelerate")
"""Keywords that settle how data ranks share states."""

OWN: dict[str, tuple[dict[str, Any], ...]] = {
    "megatron": ({"zero": 1}, {"zero": 0}),
    "torchtune": ({"fsdp": 2}, {}),
    "torchtitan": ({"fsdp": 2}, {}),
}
SHARED: tuple[dict[str, Any], ...] = ({}, {"zero": 1}, {"zero": 2}, {"zero": 3}, {"fsdp": 2})
"""Ways of sharing states that are tried: those of a recipe, or all."""


class Space:
    """Values to try.

    Attributes
    ----------
    gpus : int
        All of them are used. [-]
    tp, pp, vpp, cp, ep, etp, dp : tuple of int
        Degrees; none of `vpp`, `etp` and `dp` means all that go.
    parallel : tuple of bool
        Sequence parallelism, where there are tensor ranks.
    sharings : sequence of dict
        Keywords of how data ranks share states.
    batches : tuple of int
        Sequences of a micro-batch. [-]
    recompute : tuple
        As `train` takes it.
    global_batch : int or None
        Sequences of a step; None keeps the number of micro-batches. [-]
    notes : list of str
        What was settled without being asked for.
    """

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus
        self.tp: tuple[int, ...] = (1,)
        self.pp: tuple[int, ...] = (1,)
        self.cp: tuple[int, ...] = (1,)
        self.ep: tuple[int, ...] = (1,)
        self.vpp: tuple[int, ...] = ()
        self.etp: tuple[int, ...] = ()
        self.dp: tuple[int, ...] = ()
        self.interleaves, self.experts = True, 1
        self.parallel: tuple[bool, ...] = (False, True)
        self.sharings: Sequence[dict[str, Any]] = SHARED
        self.batches: tuple[int, ...] = BATCHES
        self.recompute: tuple[Any, ...] = RECOMPUTE
        self.global_batch: int | None = None
        self.notes: list[str] = []

    def outer(self) -> Iterator[tuple[int, bool, int, int, int]]:
        """What decides what one rank runs: tp, sequence parallelism, cp, ep, etp."""
        for tp in self.tp:
            for cp in self.cp:
                if self.gpus % (tp * cp):
                    continue
                for ep in self.ep:
                    for etp in self.etp or dict.fromkeys((1, tp) if ep > 1 else (tp,)):
                        for parallel in self.parallel if tp > 1 else (False,):
                            yield tp, parallel, cp, ep, etp

    def inner(self, tp: int, cp: int, layers: int) -> Iterator[tuple[int, int, int]]:
        """How the rest of the GPUs is used: pp, vpp, dp."""
        for pp in self.pp:
            dp, left = divmod(self.gpus, tp * cp * pp)
            if left or dp == 0 or (self.dp and dp not in self.dp):
                continue
            for vpp in self.vpp or self._chunks(pp, layers):
                if vpp == 1 or pp > 1:
                    yield pp, vpp, dp

    def _chunks(self, pp: int, layers: int) -> list[int]:
        if pp == 1 or not self.interleaves or layers % pp:
            return [1]
        return divisors(layers // pp, CHUNKS)


def space_of(asked: Any, given: dict[str, Any], inventory: Inventory, gpus: int) -> Space:
    """What is tried: all that the user gave is fixed, the rest runs over what is usual.

    Parameters
    ----------
    asked : Asked
        What was asked, resolved without a layout.
    given : dict
        Keywords of `llmcalc.train`.
    inventory : Inventory
        The model.
    gpus : int
        How many there are. [-]
    """
    made = Space(gpus)
    numbers = {
        key: numbers_of(given[key], f"--{key}") for key in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp")
    }
    pads = asked.implementation == "megatron"
    made.tp = numbers["tp"] or tuple(tp for tp in divisors(gpus, NODE) if _goes(Mesh(tp), inventory, pads))
    made.pp = numbers["pp"] or tuple(divisors(gpus, max(inventory.layers, 1)))
    made.vpp, made.etp, made.dp = numbers["vpp"], numbers["etp"], numbers["dp"]
    made.interleaves = asked.implementation in INTERLEAVED and not given["stage_layers"]
    if given["schedule"] is not None and str(given["schedule"]).strip().lower() == "gpipe":
        made.interleaves = False
    made.experts = max((op.stored for group in inventory for op in group.ops), default=1)
    made.ep = numbers["ep"] or (tuple(divisors(made.experts, gpus)) if made.experts > 1 else (1,))
    made.cp = numbers["cp"] or _contexts(made, asked)
    if given["sequence_parallel"] is not None:
        made.parallel = (flag(given["sequence_parallel"], "--sequence-parallel"),)
    made.sharings = sharings_of(asked, given)
    made.batches = numbers_of(given["micro_batch"], "--micro-batch") or BATCHES
    made.recompute = _recompute(given)
    _batch(made, asked, given)
    return made


def numbers_of(value: Any, option: str) -> tuple[int, ...]:
    """Whole numbers of a keyword: one, or several with commas; none where it is not given.

    Examples
    --------
    >>> numbers_of("1,2,4", "--tp"), numbers_of(8, "--tp"), numbers_of(None, "--tp")
    ((1, 2, 4), (8,), ())
    """
    return tuple(dict.fromkeys(parse_integer(one, option, 1 << 20) for one in words_of(value, option)))


def words_of(value: Any, option: str) -> list[Any]:
    """Values of a keyword: one, or several with commas."""
    if value is None:
        return []
    if is_array(value) and not isinstance(value, (list, tuple)):
        value = value.tolist()
    words = value.split(",") if isinstance(value, str) else value
    found = list(words) if isinstance(words, (list, tuple)) else [words]
    if not found or any(isinstance(one, str) and not one.strip() for one in found):
        raise InputError(f"{option} {shown(value)} has an empty value in it.", f"Write {option} 1,2,4.")
    return found


def _goes(mesh: Mesh, inventory: Inventory, pads: bool) -> bool:
    try:
        check_mesh(mesh, inventory, pads)
    except LlmcalcError:
        return False
    return True


def _contexts(made: Space, asked: Any) -> tuple[int, ...]:
    """Context ranks: of long sequences alone, for each exchanges keys and values in every layer."""
    seq = int(asked.seq)
    if seq < LONG:
        return (1,)
    found = tuple(divisors(made.gpus, seq // PART))
    made.notes.append(
        f"Sequences of {seq:,} tokens are shared among up to {found[-1]} context ranks, which keep "
        f"{PART:,} tokens or more each; --cp 1 leaves them whole."
    )
    return found


def sharings_of(asked: Any, given: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Ways of sharing states: as given, or those of the recipe."""
    named = [key for key in SHARINGS if given.get(key) is not None]
    if named:
        if named == ["zero"]:
            return [{"zero": stage} for stage in words_of(given["zero"], "--zero")]
        return ({key: given[key] for key in named},)
    found: tuple[dict[str, Any], ...] = OWN.get(str(asked.implementation), SHARED)
    return found


def _recompute(given: dict[str, Any]) -> tuple[Any, ...]:
    if given["recompute"] is None:
        return RECOMPUTE
    return tuple(dict.fromkeys(read_recompute(one) for one in words_of(given["recompute"], "--recompute")))


def _batch(made: Space, asked: Any, given: dict[str, Any]) -> None:
    """Sequences of a step: as given; else one for each GPU, unless micro-batches are counted."""
    if given["global_batch"] is not None:
        made.global_batch = parse_integer(given["global_batch"], "--global-batch")
    elif asked.origins["grad_accum"] == "default" and not asked.in_backward:
        made.global_batch = made.gpus
        made.notes.append(
            f"No --global-batch was given: {made.gpus:,} sequences a step, one for each GPU, are assumed."
        )
