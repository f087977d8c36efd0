"""What a training process takes besides its tensors, and which tool counts it."""

from __future__ import annotations

from llmcalc.estimate import Item, add_up
from llmcalc.formula import Quantity, ceil_div
from llmcalc.units import GIB, MIB

CONTEXT = (GIB * 45 // 100, GIB * 6 // 10, GIB * 95 // 100)
"""CUDA context and kernels: 0.47 GiB with few kernels loaded, 0.92 with all (A100, torch 2.1), 0.55 to 0.71
later (low, expected, high). [B]"""

WORKSPACE = 8 * MIB
WORKSPACE_HOPPER = 32 * MIB
"""cuBLAS, for each stream and handle; counted as allocated. [B]"""

SLACK = (0, 2, 8)
"""What the caching allocator reserves beyond what is allocated, where segments of 2 MiB and more do not fill
up; low, expected, high. [% of allocated]"""

NCCL = "nccl-964, nccl-1685, ml-engineering"

SLACK_MANY = (2, 5, 9)
"""The same with several GPUs, whose streams each have a pool: 16 runs of Megatron-LM on B200 reserved 2.8 to
9.3 % more than they allocated. [% of allocated]"""

HOPPER = ("h100", "h200", "h800", "h20", "gh200", "b200", "b100", "b300", "gb200", "rtx-50", "rtx 50")

SOURCE = "ml-engineering (memory of an empty context), PyTorch notes on CUDA memory (cuBLAS workspaces)"


def runtime_item(
    allocated: Quantity,
    metric: str,
    device: str = "",
    nccl: tuple[int, int, int] = (0, 0, 0),
    groups: str = "",
    slack: tuple[Quantity, ...] | None = None,
) -> Item:
    """Context, workspaces and what the allocator reserves in vain, as far as a metric counts them.

    Parameters
    ----------
    allocated : int or ndarray
        Bytes of tensors at the peak. [B]
    metric : str
        ``allocated``, ``reserved`` or ``nvidia-smi``; ``memtracker`` (PyTorch's own tool, tensors alone).
    device : str
        Name of the GPU, which decides the workspace.
    nccl : tuple of int
        What communicators of several GPUs take: low, expected and high. [B]
    groups : str
        What these are.
    slack : tuple of int or ndarray, optional
        What the allocator reserves in vain, where that is known: low, expected and high. [B]

    Examples
    --------
    >>> runtime_item(10 << 30, "allocated").bytes
    8388608
    """
    if metric == "memtracker":
        return Item("runtime", [0], phases=PHASES, formula="none", note="MemTracker counts tensors alone")
    workspace = WORKSPACE_HOPPER if device.lower().startswith(HOPPER) else WORKSPACE
    parts = [
        _part("cuBLAS workspace", workspace, workspace, workspace, "constant", "allocated through PyTorch")
    ]
    if metric in ("reserved", "nvidia-smi"):
        if slack is not None:
            rule, note = "a step played through the allocator", "free memory in pieces, and a pool a stream"
            low, middle, high = slack
        else:
            shares = SLACK_MANY if groups else SLACK
            low, middle, high = (ceil_div(allocated * share, 100) for share in shares)
            rule, note = "share of allocated", f"{shares[0]} to {shares[2]} % of what is allocated"
        parts.append(_part("allocator", low, middle, high, rule, note))
    if metric == "nvidia-smi":
        note = "kernels and driver, 0.45 to 0.95 GiB"
        parts.append(_part("CUDA context", *CONTEXT, "constant", note))
        if nccl[2]:
            parts.append(_part("NCCL", *nccl, "communicators by their number", groups, NCCL))
    counted = {
        "allocated": "workspace",
        "reserved": "workspace, allocator",
        "nvidia-smi": "context, NCCL, allocator" if nccl[2] else "context, allocator",
    }
    return Item(
        "runtime",
        [add_up(part.amounts[0] for part in parts)],
        low=[add_up(part.low[0] for part in parts)],
        high=[add_up(part.high[0] for part in parts)],
        phases=PHASES,
        grade="assumed",
        formula="sum of parts",
        source=SOURCE,
        note=f"{counted[metric]}: as {metric} counts",
        items=parts,
    )


def _part(
    name: str, low: Quantity, middle: Quantity, high: Quantity, rule: str, note: str, source: str = SOURCE
) -> Item:
    return Item(
        name, [middle], low=[low], high=[high], phases=PHASES, grade="assumed", formula=rule, source=source,
        note=note,
    )  # fmt: skip


PHASES = ("load", "forward", "loss", "backward", "step")
