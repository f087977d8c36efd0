"""Bytes that a phase moves through a GPU's memory, and the operations done with each.

Each op reads its weights, its inputs and its caches once and writes its outputs once: attention keeps its
scores on the chip, and nothing else stays there from one op to the next. Fused kernels move less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.compute.ops import TOWERS, Line, Work
from llmcalc.formula import Quantity, ceil_div, formula, larger, smaller
from llmcalc.model.inventory import Group, Inventory, Tensor, size

Bits = Callable[[str], Any]
"""Bits of a format by its name; "" is the model's dtype. [bit]"""

STATE_BYTES = 4
"""Recurrent states are kept in fp32 unless a model says otherwise. [B]"""


@formula
def arithmetic_intensity(flops: Quantity, moved: Quantity) -> Quantity:
    """Operations for each byte that is moved.

    Parameters
    ----------
    flops, moved : int, float or ndarray
        Operations, and bytes through the GPU's memory. [FLOP], [B]

    Returns
    -------
    float or ndarray
        Intensity. [FLOP/B]

    Notes
    -----
    Below a GPU's own ratio of peak and bandwidth its memory is what limits it.

    Examples
    --------
    A matrix of 16-bit weights times one vector: two operations for two bytes.

    >>> arithmetic_intensity(2 * 4096 * 4096, 2 * 4096 * 4096)
    1.0

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline: An Insightful Visual Performance Model", 2009.
    """
    return flops / moved


@formula
def roofline_seconds(flops: Quantity, moved: Quantity, peak: Quantity, bandwidth: Quantity) -> Quantity:
    """Least time of a phase on a GPU: operations at the peak or bytes at the bandwidth, whichever is longer.

    Parameters
    ----------
    flops, moved : int, float or ndarray
        Operations, and bytes through the GPU's memory. [FLOP], [B]
    peak, bandwidth : float
        Of the GPU. [FLOP/s], [B/s]

    Returns
    -------
    float or ndarray
        Time. [s]

    Notes
    -----
    A bound, not a prediction: kernels reach some 70 to 90 % of either.

    Examples
    --------
    Llama-3.1-8B in bf16 on an H100 (989.5 TFLOP/s, 3.35 TB/s), one token: 15 GB of weights take 4.5 ms.

    >>> round(roofline_seconds(15e9, 15e9, 989.5e12, 3.35e12) * 1e3, 1)
    4.5

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline: An Insightful Visual Performance Model", 2009.
    """
    return larger(flops / peak, moved / bandwidth)


@formula
def experts_touched(experts: Quantity, share: Quantity, tokens: Quantity) -> Quantity:
    """Experts that at least one of some tokens is sent to, on average, if all are chosen alike.

    Parameters
    ----------
    experts : int
        Routed experts of a layer. [-]
    share : float
        Share of them that a token is not sent to. [-]
    tokens : int
        Tokens of a pass. [tokens]

    Returns
    -------
    float
        Experts whose weights are read. [-]

    Examples
    --------
    Eight experts, two for each token: one token reads 2, eight tokens 7.2 of them.

    >>> experts_touched(8, 0.75, 1), round(experts_touched(8, 0.75, 8), 1)
    (2.0, 7.2)

    References
    ----------
    .. [1] The chance of balls in bins; T. Gale et al., "MegaBlocks", 2022, on balanced routing.
    """
    return experts * (1 - share**tokens)


def _stored_bytes(tensor: Tensor, bits: Bits) -> Any:
    return sum(part.numel * bits(part.dtype or "") / 8 for part in tensor.stored or (tensor,))


def weights_read(inventory: Inventory, bits: Bits, tokens: int, work: Work) -> float:
    """Bytes of weights that one pass over `tokens` tokens reads. [B]"""
    found = 0.0
    for group in inventory.groups:
        if group.component in TOWERS or (group.component == "mtp" and not work.prediction):
            continue
        if group.component == "encoder" and work.phase == "decode":
            continue
        times = len(group.layers) if group.place == "layer" else 1
        routed = {op.role: op for op in group.ops if op.stored > 1}
        tables = {op.role for op in group.ops if op.kind == "embedding"}
        for tensor in group.tensors:
            if tensor.tag not in ("main", "mtp", "scale"):
                continue
            own = times * _stored_bytes(tensor, bits)
            if tensor.role in tables or tensor.role == "position":  # a look-up reads its rows alone
                own = smaller(own, own / tensor.shape[0] * tokens)
            elif tensor.role in routed:
                op = routed[tensor.role]
                own *= experts_touched(op.stored, 1 - op.active / op.stored, tokens) / op.stored
            found += own
        tied = group.place == "head" and any(
            op.kind == "linear" and op.role == "embedding" for op in group.ops
        )
        if tied:
            table = [
                t for g in inventory.groups for t in g.tensors if t.role == "embedding" and g is not group
            ]
            found += sum(_stored_bytes(tensor, bits) for tensor in table[:1])
    return found


def caches_moved(inventory: Inventory, work: Work, kv_bytes: Any, sequences: Quantity) -> tuple[Any, Any]:
    """Bytes of caches that a pass reads and writes, over all sequences. [B]"""
    read: Any = 0
    written: Any = 0
    for group in inventory.groups:
        if group.component in TOWERS or group.component == "mtp":
            continue
        for cache in group.caches:
            width = sum(size(dimension) for _, dimension in cache.parts)
            times = len(group.layers)
            if cache.is_state:
                whole = width * (cache.positions or 1) * (STATE_BYTES if cache.kind == "recurrent" else 2)
                read += times * whole * (1 if work.phase == "decode" else 0)
                written += times * whole
                continue
            held = _positions(group, cache, work)
            new = 1 if work.phase == "decode" and cache.kind != "cross" else held
            if work.phase == "decode":
                read += times * held * width * kv_bytes
                new = 0 if cache.kind == "cross" else 1
            written += times * new * width * kv_bytes
    return read * sequences, written * sequences


def _positions(group: Group, cache: Any, work: Work) -> Any:
    """Entries that a query reads of a cache."""
    if cache.kind == "cross":
        return work.image if cache.stream == "image" else work.encoder
    tokens: Any = ceil_div(work.tokens, cache.rate)
    chosen = next((op.window for op in group.ops if op.role == "attention" and op.window), None)
    if cache.kind == "latent" and chosen is not None and work.phase == "decode":
        return smaller(tokens, chosen)  # an indexer chooses
    return tokens if cache.positions is None else smaller(tokens, cache.positions)


def activations_moved(lines: list[Line], work: Work, sequences: Quantity, element: int = 2) -> Any:
    """Bytes that ops read and write besides weights and caches; in training three times that. [B]"""
    found: Any = 0
    for line in lines:
        if line.kind not in ("linear", "attention", "conv", "scan"):
            continue
        once = 1 if work.phase == "decode" else work.encoder if line.component == "encoder" else work.tokens
        if line.part == "head" and work.head == "last":
            once = 1
        op = line.op
        width = size(op.out) + size(op.inp) if line.kind in ("linear", "attention") else 2 * size(op.inp)
        if line.kind == "conv":
            width = 2 * size(op.out)
        found += line.layers * op.active * width * once * element
    return found * sequences * (3 if work.phase == "train" else 1)
