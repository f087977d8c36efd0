"""What NCCL takes on each GPU: one communicator for every group of ranks that talk to each other."""

from __future__ import annotations

from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.units import MIB

Range = tuple[int, int, int]
"""Low, expected and high. [B]"""

EACH: Range = (400 * MIB, 656 * MIB, 900 * MIB)
"""One communicator: 519 MiB between 2 GPUs and 656 among 4 (A100, NVLink); 0.7 to 1.4 GiB among 8. [B]"""

FIRST = 600 * MIB
"""What the first one may take more until its buffers have settled. [B]"""

EXCHANGE: Range = (500 * MIB, 1500 * MIB, 3300 * MIB)
"""Connections of every rank with every other, which all-to-all and send need: 3.1 GiB among 8 H100. [B]"""


def communicators(mesh: Mesh, sharding: str = "", clips: bool = True) -> dict[str, tuple[int, bool]]:
    """Groups of ranks that one rank belongs to: their sizes, and whether all talk to all.

    Parameters
    ----------
    mesh : Mesh
        The layout.
    sharding : str
        ``hsdp`` has a group for the copies beside the one for the shards.
    clips : bool
        Whether the norm of all gradients is taken, over a group of its own where the model is cut.

    Examples
    --------
    >>> communicators(Mesh(tp=8, pp=4, dp=2))
    {'tensor': (8, False), 'pipeline': (4, True), 'data': (2, False), 'model': (32, False)}
    """
    found: dict[str, tuple[int, bool]] = {}
    if mesh.tp > 1:
        found["tensor"] = mesh.tp, False
    if mesh.pp > 1:
        found["pipeline"] = mesh.pp, True
    if mesh.cp > 1:
        found["context"] = mesh.cp, True
    if mesh.ep > 1:
        found["expert"] = mesh.ep * mesh.etp, True
        if mesh.expert_replicas > 1:
            found["expert data"] = mesh.expert_replicas, False
    if mesh.replicas > 1:
        found["data"] = mesh.replicas, False
    if sharding == "hsdp":
        found["copies"] = mesh.replicas, False
    if clips and mesh.tp * mesh.pp > 1:
        found["model"] = mesh.tp * mesh.pp, False
    return found


def nccl_bytes(groups: dict[str, tuple[int, bool]]) -> Range:
    """Memory of all communicators of a rank. [B]

    Examples
    --------
    >>> [size >> 20 for size in nccl_bytes({"data": (8, False)})]
    [400, 656, 1500]
    """
    if not groups:
        return 0, 0, 0
    number, exchanging = len(groups), any(exchanges for _, exchanges in groups.values())
    low, middle, high = (
        number * one + (more if exchanging else 0) for one, more in zip(EACH, EXCHANGE, strict=True)
    )
    return low, middle, high + FIRST
