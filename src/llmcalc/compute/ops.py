"""The operations of a model, op by op: a fold over its inventory.

A `Work` says what is run: phase, tokens, how masks count. `count` gives one `Line` for each op of each group
of equal layers, with forward and backward operations of one sequence. Norms, activations, softmax, rotations
and biases are not counted, as in all conventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcalc.compute.flops import (
    adapter_flops,
    attention_flops,
    causal_pairs,
    chunked_pairs,
    convolution_flops,
    linear_flops,
    local_pairs,
    scan_flops,
)
from llmcalc.formula import Quantity, smaller
from llmcalc.model.inventory import Group, Inventory, Op, size

PHASES = ("train", "prefill", "decode")
MASKS = ("causal", "half", "full")
ATTENDING = ("full", "window", "chunk", "latent", "compressed", "cross")
TOWERS = ("vision", "projector", "audio", "image_generator")
FIRST = ("attention", "scan", "conv")
"""Kinds of ops that come after the projections of a mixing layer."""


class Work:
    """What is run, once, over one sequence.

    Parameters
    ----------
    phase : str
        ``train`` (forward and backward), ``prefill`` or ``decode`` (one token after `tokens` others).
    tokens : int or ndarray
        Tokens of the sequence; in decode the positions that the new token attends to. [tokens]
    mask : str
        ``causal``: pairs that masks and windows let through. ``half``: half of all pairs, windows ignored.
        ``full``: all pairs, as dense kernels execute and many formulas count.
    head : str
        ``all``, ``last`` (the last position alone) or ``none``.
    encoder, image : int or ndarray
        Tokens of the other streams. [tokens]
    embedding : bool
        Whether a look-up in the embedding counts as a product with the vocabulary.
    prediction : bool
        Whether the prediction layers (MTP) run too.
    adapters : mapping, optional
        Rank by component, place and role of what carries an adapter; all else is then frozen. [-]
    """

    __slots__ = ("adapters", "embedding", "encoder", "head", "image", "mask", "phase", "prediction", "tokens")

    def __init__(
        self, phase: str, tokens: Quantity, mask: str = "causal", head: str = "all", encoder: Quantity = 0,
        image: Quantity = 0, prediction: bool = False,
        adapters: Mapping[tuple[str, str, str], int] | None = None, embedding: bool = False,
    ) -> None:  # fmt: skip
        self.embedding = embedding
        self.phase, self.tokens, self.mask, self.head = phase, tokens, mask, head
        self.encoder, self.image, self.prediction, self.adapters = encoder, image, prediction, adapters


class Line:
    """Operations of one op over all layers that are equal.

    Attributes
    ----------
    op, role, kind, part : Op, str
        The op; and where it counts: ``layers``, ``attention`` (scores and sums), ``state``, ``embedding`` or
        ``head``.
    group : Group
        The layers it stands in; `component` and `place` are theirs.
    layers : int
        How often it is executed. [-]
    forward, backward : int or ndarray
        Operations of one sequence. [FLOP]
    share : str
        ``8 of 256`` where a token runs some of several copies; else empty.
    """

    __slots__ = (
        "backward", "component", "forward", "group", "kind", "layers", "op", "part", "place", "role", "share",
    )  # fmt: skip

    def __init__(self, group: Group, op: Op, part: str, layers: int, forward: Any, backward: Any) -> None:
        self.group, self.component, self.place = group, group.component, group.place
        self.op, self.role, self.kind, self.part, self.layers = op, op.role, op.kind, part, layers
        if op.kind == "linear" and op.role == "embedding":
            self.role = "unembedding"  # a tied head multiplies by the embedding
        self.share = f"{op.active:,} of {op.stored:,}" if op.stored > 1 else ""
        self.forward, self.backward = forward, backward

    def __repr__(self) -> str:
        return f"<{self.component} {self.role} x{self.layers}: {self.forward} forward>"


def is_causal(inventory: Inventory) -> bool:
    """Whether its text layers are masked: encoders remember nothing."""
    return any(
        cache.kind in ATTENDING or cache.is_state
        for group in inventory.groups
        if group.component == "text"
        for cache in group.caches
    )


def has_towers(inventory: Inventory) -> bool:
    """Whether it has layers for images or sound, which are counted for text alone as not run."""
    return any(group.component in TOWERS for group in inventory.groups)


def count(inventory: Inventory, work: Work) -> list[Line]:
    """Operations of one sequence, op by op. [FLOP]"""
    masked = is_causal(inventory)
    lines: list[Line] = []
    for group in inventory.groups:
        if group.component in TOWERS or (group.component == "mtp" and not work.prediction):
            continue
        if work.phase == "decode" and group.component == "encoder":
            continue  # it ran once, with the prompt
        times = len(group.layers) if group.place == "layer" else 1
        if not times or not group.ops:
            continue
        causal = masked and group.component in ("text", "mtp")
        lines += _of_group(group, work, causal, times)
    if work.phase == "train":
        _backward(inventory, lines, work)
    return lines


def _of_group(group: Group, work: Work, causal: bool, times: int) -> list[Line]:
    found = []
    for op in group.ops:
        forward = _forward(group, op, work, causal)
        if forward is None:
            continue
        part = "attention" if op.kind == "attention" else "state" if op.kind in ("scan", "conv") else "layers"
        if group.place == "head" and op.kind == "linear":
            part = "head"
        elif op.kind == "embedding":
            part = "embedding"
        found.append(Line(group, op, part, times, times * forward, 0))
    return found


def _forward(group: Group, op: Op, work: Work, causal: bool) -> Any:
    """Operations of one execution; None for what is not counted."""
    own = work.encoder if group.component == "encoder" else work.tokens
    once = 1 if work.phase == "decode" else own
    if op.kind == "linear":
        if op.role.startswith(("expert_vision_", "vision_router")):
            return None
        tokens = _passing(group, op, work, once)
        return None if tokens is None else op.active * linear_flops(tokens, size(op.out), size(op.inp))
    if op.kind == "attention":
        query, value = size(op.out), size(op.inp)
        if work.phase == "decode" and op.role == "attention":
            query, value = _absorbed(group, query, value)
        return attention_flops(_pairs(group, op, work, own, causal), query, value)
    if op.kind == "conv":
        return convolution_flops(once, size(op.out), size(op.inp))
    if op.kind == "embedding" and op.role == "embedding" and work.embedding:
        return linear_flops(once, size(op.out), size(op.inp))
    if op.kind == "scan":
        delta = any(one.role.startswith("delta_") for one in group.ops)
        return scan_flops(once, size(op.out), 7 if delta else 5)
    return None


def _passing(group: Group, op: Op, work: Work, once: Quantity) -> Any:
    """Tokens that pass through a matrix; None for a head that is not counted."""
    if op.role in ("cross_key", "cross_value"):  # made once, of the other stream
        return 0 * once if work.phase == "decode" else _other(group, work)
    if group.place == "head" and group.component in ("text", "mtp"):
        if work.head == "none":
            return None
        if work.head == "last" or op.role.startswith("pooler"):
            return 1
    return once


def _other(group: Group, work: Work) -> Quantity:
    """Tokens of the stream that cross-attention reads."""
    stream = next((cache.stream for cache in group.caches if cache.kind == "cross"), "encoder")
    return work.image if stream == "image" else work.encoder


def _absorbed(group: Group, query: int, value: int) -> tuple[int, int]:
    """Widths of latent attention as engines decode: on the latent itself, for every head."""
    latent = next((cache for cache in group.caches if cache.kind == "latent"), None)
    if latent is None:
        return query, value
    kept = dict(latent.parts)
    rank, rotary = size(kept["latent"]), size(kept["rotary"])
    attention = next(op for op in group.ops if op.kind == "attention")
    heads = dict(attention.out[0])["heads"]
    return heads * (rank + rotary), heads * rank


def _pairs(group: Group, op: Op, work: Work, tokens: Quantity, causal: bool) -> Any:
    """Pairs of positions that one attention op multiplies."""
    window = op.window
    chunked = op.role == "attention" and any(cache.kind == "chunk" for cache in group.caches)
    if op.role.startswith("cross"):
        return (1 if work.phase == "decode" else tokens) * _other(group, work)
    if work.phase == "decode":
        return tokens if window is None or work.mask != "causal" else smaller(tokens, window)
    if work.mask == "full" or not causal:
        if window is not None and not causal and work.mask == "causal":
            return local_pairs(tokens, window // 2)
        return tokens * tokens
    if work.mask == "half":
        return tokens * tokens / 2
    if chunked and window is not None:
        return chunked_pairs(tokens, window)
    return causal_pairs(tokens, tokens if window is None else window)


# -- the backward pass --------------------------------------------------------------------------


def _backward(inventory: Inventory, lines: list[Line], work: Work) -> None:
    """Fill in the backward pass: twice the forward one, less what frozen weights save."""
    if work.adapters is None:
        for line in lines:
            line.backward = 2 * line.forward
        return
    from llmcalc.compute.frozen import frozen_backward

    frozen_backward(inventory, lines, work)


def adapter_lines(inventory: Inventory, work: Work) -> list[Line]:
    """Operations of the adapters themselves; the first layer's inputs need no gradient."""
    if not work.adapters:
        return []
    from llmcalc.compute.frozen import READS_INPUT, first_layer

    start = first_layer(inventory)
    found = []
    for group in inventory.groups:
        times = len(group.layers) if group.place == "layer" else 1
        for op in group.ops:
            rank = work.adapters.get((group.component, group.place, op.role))
            if rank is None or op.kind != "linear":
                continue
            if work.phase == "decode" and group.component == "encoder":
                continue  # it ran once, with the prompt
            own = work.encoder if group.component == "encoder" else work.tokens
            tokens = _passing(group, op, work, 1 if work.phase == "decode" else own)
            one = op.active * adapter_flops(tokens, size(op.out), size(op.inp), rank)
            line = Line(group, op, "adapters", times, times * one, 0)
            line.role = f"adapter of {line.role}"
            if work.phase == "train":
                first = op.active * linear_flops(tokens, rank, size(op.inp))
                saved = first if start in group.layers and op.role in READS_INPUT else 0
                line.backward = 2 * times * one - saved
            found.append(line)
    return found


def total(lines: list[Line], *parts: str) -> tuple[Any, Any]:
    """Forward and backward operations of some parts, or of all. [FLOP]"""
    chosen = [line for line in lines if not parts or line.part in parts]
    return sum(line.forward for line in chosen), sum(line.backward for line in chosen)


def recomputed(lines: list[Line], what: str) -> Any:
    """Operations that are done again in the backward pass. [FLOP]

    ``full``: all layers once more. ``selective``: attention's scores and sums alone. What flash attention
    makes again inside its own kernel is in neither, as in all conventions.
    """
    if what == "full":
        return sum(line.forward for line in lines if line.place == "layer")
    if what == "selective":
        return sum(line.forward for line in lines if line.part == "attention")
    return 0
