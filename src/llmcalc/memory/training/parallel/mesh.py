"""A layout of GPUs: how many ranks share tensors, stages, sequences, experts and data."""

from __future__ import annotations

import math

from llmcalc.errors import InputError, one_of
from llmcalc.formula import Quantity, ceil_div, is_array
from llmcalc.memory.training.parallel.formulas import pipeline_bubble
from llmcalc.model.inventory import Inventory
from llmcalc.placement import divisors

EXCHANGES = ("p2p", "a2a")
"""How context ranks exchange keys and values."""

SCHEDULES = ("1f1b", "gpipe")
"""Orders of a pipeline's micro-batches; several chunks a stage make the first one interleaved."""


class Mesh:
    """Degrees of parallelism, and what follows from them.

    Parameters
    ----------
    tp, pp, cp, ep, dp : int
        Ranks that share each tensor, the layers, each sequence, the experts, the data. [-]
    etp : int
        Ranks that share the tensors of an expert. [-]
    vpp : int
        Chunks of layers on each stage. [-]
    sequence_parallel : bool
        Whether tensor ranks share the residual stream's tokens too.
    schedule : str
        ``1f1b`` or ``gpipe``.
    micro_batches : int
        Of one step. [-]
    stage_layers : tuple of int
        Layers of each stage, where they are uneven; of one chunk each. [-]
    capacity : float or None
        Tokens that an expert takes of each rank, padded to it, as a multiple of an equal share; None takes
        what comes. [-]
    imbalance : float
        Tokens that the busiest rank's experts get, as a multiple of an equal share. [-]
    cp_comm : str
        How context ranks exchange what attention reads: ``p2p`` (in a ring) or ``a2a`` (heads for tokens).
    per_node : int
        GPUs of one machine. [-]

    Notes
    -----
    Experts are spread over tensor, context and data ranks alike, as Megatron-Core does: of
    tp x cp x dp ranks, etp x ep hold one copy of all experts of a stage.

    Examples
    --------
    >>> mesh = Mesh(tp=8, pp=16, dp=8)
    >>> mesh.gpus, mesh.replicas
    (1024, 8)
    """

    __slots__ = (
        "capacity", "cp", "cp_comm", "dp", "ep", "etp", "imbalance", "micro_batches", "per_node", "pp",
        "schedule", "sequence_parallel", "stage_layers", "tp", "vpp",
    )  # fmt: skip

    def __init__(
        self, tp: int = 1, pp: int = 1, cp: int = 1, ep: int = 1, dp: int = 1, etp: int | None = None,
        vpp: int = 1, sequence_parallel: bool = False, schedule: str = "1f1b", micro_batches: int = 1,
        stage_layers: tuple[int, ...] = (), capacity: float | None = None, imbalance: float = 1.0,
        cp_comm: str = "p2p", per_node: int = 8,
    ) -> None:  # fmt: skip
        self.tp, self.pp, self.cp, self.ep, self.dp = tp, pp, cp, ep, dp
        self.etp = etp if etp is not None else (1 if ep > 1 else tp)
        self.vpp, self.sequence_parallel, self.schedule = vpp, sequence_parallel, schedule
        self.micro_batches, self.stage_layers, self.per_node = micro_batches, stage_layers, per_node
        self.capacity, self.imbalance, self.cp_comm = capacity, imbalance, cp_comm

    @property
    def gpus(self) -> int:
        """GPUs in all. [-]"""
        return self.tp * self.pp * self.cp * self.dp

    @property
    def replicas(self) -> int:
        """Ranks that hold the same weights, experts aside: data and context ranks. [-]"""
        return self.dp * self.cp

    @property
    def expert_replicas(self) -> int:
        """Ranks that hold the same experts. [-]"""
        return self.tp * self.cp * self.dp // (self.etp * self.ep)

    @property
    def is_single(self) -> bool:
        """Whether it is one GPU."""
        return self.gpus == 1

    def routed(self, tokens: Quantity, active: int, experts: int) -> Quantity:
        """Rows that the experts of one rank multiply. [-]

        Parameters
        ----------
        tokens : int or ndarray
            Of one rank. [tokens]
        active, experts : int
            Experts of a token, and of the layer. [-]

        Examples
        --------
        DeepSeek-V2 with a capacity factor of 1: 154 rows of each of 8 ranks for each of 20 experts:

        >>> Mesh(dp=8, ep=8, capacity=1.0).routed(4096, 6, 160)
        24640
        """
        if self.capacity is not None:
            if not is_array(tokens):
                return self.etp * experts * math.ceil(tokens * active * self.capacity / experts)
            return (
                self.etp * experts * ceil_div(round(1000 * self.capacity) * tokens * active, 1000 * experts)
            )
        whole = self.etp * tokens * active
        return whole if self.imbalance == 1 else ceil_div(whole * round(1000 * self.imbalance), 1000)

    @property
    def bubble(self) -> float:
        """Share of a stage's working time that it waits for others: (p - 1) / (v m). [-]

        Examples
        --------
        >>> Mesh(pp=4, micro_batches=8).bubble
        0.375
        """
        return float(pipeline_bubble(self.pp, self.micro_batches, self.vpp))

    @property
    def told(self) -> str:
        """The layout in words that the command line takes."""
        parts = [("tp", self.tp), ("pp", self.pp), ("vpp", self.vpp), ("cp", self.cp), ("ep", self.ep)]
        words = [f"{name} {degree}" for name, degree in parts if degree > 1]
        return ", ".join([*words, f"dp {self.dp}"])

    def __repr__(self) -> str:
        return f"<{self.gpus} GPUs: {self.told}>"


def check_mesh(mesh: Mesh, inventory: Inventory, pads: bool = True) -> None:
    """Refuse a layout that a model does not allow.

    Parameters
    ----------
    mesh : Mesh
        The layout.
    inventory : Inventory
        The model.
    pads : bool
        Whether the vocabulary is padded to what tensor ranks can share, as Megatron does.

    Raises
    ------
    InputError
        With what would do.
    """
    check_tensors(mesh.tp, inventory, pads)
    _stages(mesh, inventory)
    _experts(mesh, inventory)


def check_tensors(tp: int, inventory: Inventory, pads: bool = True, gpus: int = 0) -> None:
    """Refuse tensor ranks that do not divide a model; of so many GPUs, if they are known, others are told.

    Raises
    ------
    InputError
        With what would do.
    """
    if tp == 1 or inventory.is_opaque:
        return

    def use(number: int) -> str:
        return f"Use --tp {one_of([str(n) for n in divisors(number) if not gpus or gpus % n == 0][:9])}."

    for what, number in inventory.split.items():
        if number % tp:
            raise InputError(f"--tp {tp} does not divide {number} {what} of {inventory.name}.", use(number))
    for role, axis, number in _widths(inventory):
        if axis == "kv_heads" and tp % number == 0:
            continue  # each key head is on several ranks
        if axis == "vocab":
            if number % tp and not pads:
                raise InputError(
                    f"--tp {tp} does not divide the vocabulary of {inventory.name}, {number:,}.",
                    f"{use(number)[:-1]}, or --recipe megatron, which pads it.",
                )
        elif number % tp:
            raise InputError(
                f"--tp {tp} does not divide {number:,} {axis.replace('_', ' ')} of {role} in "
                f"{inventory.name}.",
                use(number),
            )


def _widths(inventory: Inventory) -> list[tuple[str, str, int]]:
    """What a tensor rank divides, once each: role, axis and length."""
    found = {}
    for group in inventory:
        for tensor in group.tensors:
            if tensor.tag != "main" or group.component != "text" or tensor.role.startswith("expert_"):
                continue
            for dimension in tensor.dims:
                for segment in dimension:
                    for axis, length in segment:
                        if axis in ("kv_heads", "ffn", "vocab"):
                            found[axis, length] = (tensor.role, axis, length)
    return list(found.values())


def _stages(mesh: Mesh, inventory: Inventory) -> None:
    layers = inventory.layers
    if mesh.pp > 1 and not inventory.is_opaque and mesh.pp > layers:
        raise InputError(
            f"--pp {mesh.pp} is more than the {layers} layers of {inventory.name}.",
            f"Use --pp 1 to {layers}.",
        )
    if mesh.vpp > 1:
        if mesh.pp == 1:
            raise InputError(
                "--vpp cuts the stages of a pipeline, and there is one.", "Add --pp, or leave it out."
            )
        if layers % (mesh.pp * mesh.vpp) and not mesh.stage_layers:
            fits = [str(n) for n in range(2, layers // mesh.pp + 1) if layers % (mesh.pp * n) == 0]
            remedy = f"Use --vpp {one_of(fits[:8])}, or leave it out." if fits else "Leave --vpp out."
            raise InputError(
                f"--pp {mesh.pp} x --vpp {mesh.vpp} does not divide the {layers} layers of {inventory.name}.",
                remedy,
            )
        if mesh.schedule == "gpipe":
            raise InputError("--vpp interleaves 1F1B; GPipe has one chunk a stage.", "Use --schedule 1f1b.")
        if mesh.micro_batches % mesh.pp:
            near = (mesh.micro_batches // mesh.pp + 1) * mesh.pp
            raise InputError(
                f"--vpp {mesh.vpp} needs micro-batches in multiples of --pp {mesh.pp}; there are "
                f"{mesh.micro_batches}.",
                f"Use --grad-accum {near}.",
            )
    if mesh.stage_layers:
        _uneven(mesh, layers, inventory)


def _uneven(mesh: Mesh, layers: int, inventory: Inventory) -> None:
    told = ",".join(map(str, mesh.stage_layers))
    if len(mesh.stage_layers) != mesh.pp * mesh.vpp:
        raise InputError(
            f"--stage-layers {told} names {len(mesh.stage_layers)} stages; there are {mesh.pp}"
            + (f" of {mesh.vpp} chunks each." if mesh.vpp > 1 else "."),
            "Give one number for each stage"
            + (", of each chunk in the order of the model." if mesh.vpp > 1 else "."),
        )
    if sum(mesh.stage_layers) != layers:
        raise InputError(
            f"--stage-layers {told} adds up to {sum(mesh.stage_layers)}; {inventory.name} has {layers}.",
            f"Make them add up to {layers}.",
        )


def _experts(mesh: Mesh, inventory: Inventory) -> None:
    experts = max((op.stored for group in inventory for op in group.ops if op.stored > 1), default=0)
    if mesh.ep > 1 and not experts:
        raise InputError(f"--ep {mesh.ep}: {inventory.name} has no experts.", "Leave --ep out.")
    if mesh.ep > 1 and experts % mesh.ep:
        allowed = [str(value) for value in divisors(experts)]
        raise InputError(
            f"--ep {mesh.ep} does not divide {experts} experts of {inventory.name}.",
            f"Use --ep {one_of(allowed[:10])}.",
        )
    ranks = mesh.tp * mesh.cp * mesh.dp
    if ranks % (mesh.ep * mesh.etp):
        fits = [str(value) for value in divisors(ranks) if ranks % (value * mesh.etp) == 0]
        raise InputError(
            f"--ep {mesh.ep} x --etp {mesh.etp} does not divide the {ranks} ranks of a stage "
            f"(tp {mesh.tp} x cp {mesh.cp} x dp {mesh.dp}).",
            f"Use --ep {one_of(fits[:8] or ['1'])}.",
        )
