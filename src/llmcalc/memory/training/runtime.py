"""What a training process takes besides its tensors, and which tool counts it."""

from __future__ import annotations

from llmcalc.estimate import Item
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

HOPPER = ("h100", "h200", "h800", "h20", "gh200", "b200", "b100", "b300", "gb200", "rtx-50", "rtx 50")

SOURCE = "ml-engineering (memory of an empty context), PyTorch notes on CUDA memory (cuBLAS workspaces)"


def runtime_item(allocated: Quantity, metric: str, device: str = "") -> Item:
    """Context, workspaces and what the allocator reserves in vain, as far as a metric counts them.

    Parameters
    ----------
    allocated : int or ndarray
        Bytes of tensors at the peak. [B]
    metric : str
        ``allocated``, ``reserved`` or ``nvidia-smi``; ``memtracker`` (PyTorch's own tool, tensors alone).
    device : str
        Name of the GPU, which decides the workspace.

    Examples
    --------
    >>> runtime_item(10 << 30, "allocated").bytes
    8388608
    """
    if metric == "memtracker":
        return Item("runtime", [0], phases=PHASES, formula="none", note="MemTracker counts tensors alone")
    hopper = device.lower().startswith(HOPPER)
    workspace = WORKSPACE_HOPPER if hopper else WORKSPACE
    parts = [
        Item(
            "cuBLAS workspace",
            [workspace],
            phases=PHASES,
            grade="assumed",
            formula="constant",
            inputs={"bytes": workspace},
            source=SOURCE,
            note="allocated through PyTorch",
        ),
    ]
    if metric in ("reserved", "nvidia-smi"):
        low, middle, high = (ceil_div(allocated * share, 100) for share in SLACK)
        parts.append(
            Item(
                "allocator",
                [middle],
                low=[low],
                high=[high],
                phases=PHASES,
                grade="assumed",
                formula="share of allocated",
                inputs={"percent": SLACK[1]},
                source=SOURCE,
                note=f"{SLACK[0]} to {SLACK[2]} % of what is allocated",
            )
        )
    if metric == "nvidia-smi":
        low, middle, high = CONTEXT
        parts.append(
            Item(
                "CUDA context",
                [middle],
                low=[low],
                high=[high],
                phases=PHASES,
                grade="assumed",
                formula="constant",
                inputs={"bytes": middle},
                source=SOURCE,
                note="kernels and driver, 0.45 to 0.95 GiB",
            )
        )
    counted = {
        "allocated": "workspace",
        "reserved": "workspace, allocator",
        "nvidia-smi": "context, allocator",
    }
    return Item(
        "runtime",
        [_sum(part.amounts[0] for part in parts)],
        low=[_sum(part.low[0] for part in parts)],
        high=[_sum(part.high[0] for part in parts)],
        phases=PHASES,
        grade="assumed",
        formula="sum of parts",
        source=SOURCE,
        note=f"{counted[metric]}: as {metric} counts",
        items=parts,
    )


PHASES = ("load", "forward", "loss", "backward", "step")


def _sum(values: object) -> Quantity:
    from llmcalc.estimate import add_up

    return add_up(values)  # type: ignore[arg-type]
