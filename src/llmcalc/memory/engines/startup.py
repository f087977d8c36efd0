"""What a server's process takes of a GPU before it loads anything: context and communication.

Read off "Load weight begin. avail mem" of SGLang's logs: 0.41 to 0.52 GiB less than the runtime's total on
single cards; 1.4 to 2.4 GiB on two to sixteen H100, H200 and H800; 0.4 to 0.8 on A10G, L4 and A100-40.
"""

from __future__ import annotations

from llmcalc.units import GIB, MIB

CONTEXT, NCCL, LINKED = 470 * MIB, 150 * MIB, 1450 * MIB
"""The CUDA context; with tensor ranks also buffers of NCCL, and those of its fast paths on cards with links
of their own (60 GiB and more). [B]"""

CONTEXT_SPREAD, NCCL_SPREAD = 20, 50
"""How far either may lie off. [%]"""

SOURCE = "SGLang's issues and pull requests (11716, 4161 ...): free memory before loading"


def before_load(memory: int | None, ranks: int) -> tuple[int, int]:
    """The CUDA context, and what tensor ranks take to talk to each other. [B]

    Parameters
    ----------
    memory : int or None
        The driver's total of one GPU; None counts as large. [B]
    ranks : int
        Tensor ranks. [-]

    Examples
    --------
    Eight H200 had 137.29 of 139.72 GiB left:

    >>> round(sum(before_load(143_771 * 2**20, 8)) / 2**30, 2)
    1.88

    References
    ----------
    SGLang, PR 11716.
    """
    if ranks <= 1:
        return CONTEXT, 0
    return CONTEXT, LINKED if memory is None or memory >= 60 * GIB else NCCL
