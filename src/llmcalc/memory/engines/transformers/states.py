"""Recurrent layers in transformers: a projection, a short convolution, a scan over the prompt.

With the kernels of mamba-ssm, causal-conv1d and flash-linear-attention a chunk's inner products stay on the
chip; the reference code in PyTorch, which transformers falls back to, holds them all in fp32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.memory.engines.transformers.layer import Layer
from llmcalc.memory.engines.transformers.ledger import Block
from llmcalc.placement import split_dim

if TYPE_CHECKING:
    from llmcalc.memory.engines.transformers.passes import Pass

LABEL = "recurrence"
INPUTS = ("ssm_in", "delta_qkvz", "delta_ba", "conv_in", "ssm_x", "ssm_dt")
SSD_CHUNK, DELTA_CHUNK = 256, 64
"""Tokens of a chunk: the default of Mamba-2's configurations, and of the gated delta rule. [tokens]"""


def scan(run: Pass, layer: Layer) -> Block:
    """From the normed input to the output projection."""
    ledger = run.ledger
    made = [run.make(layer.out[role], LABEL) for role in INPUTS if role in layer.out]
    if "conv" in layer.ops:
        channels = split_dim(layer.ops["conv"].out, 1)[0]
        made.append(run.make(channels, LABEL, run.make(channels, LABEL)))
    inner = split_dim(layer.ops["scan"].inp, 1)[0] if "scan" in layer.ops else run.hidden
    if "scan" in layer.ops:
        elements = _reference(layer, inner) if not run.options.kernels else _fused(layer)
        rows = run.batch * -(-run.tokens // _chunk(layer)) * _chunk(layer)  # whole chunks
        if run.tokens == 1:
            elements, rows = 4 * sum(kept.row for kept in layer.states if kept.kind == "recurrent"), run.batch
        ledger.drop(ledger.make(4 * elements * rows, LABEL))
    out = run.make(inner, LABEL)
    if layer.norms & {"ssm_norm", "delta_norm"}:
        out = run.norm(inner, LABEL, out)
    result = run.make(run.hidden, "hidden states")
    ledger.drop(out, *made)
    return result


def _state(layer: Layer) -> tuple[int, int, int]:
    """Elements of the state, heads, and elements of a head's row."""
    op = layer.ops["scan"]
    return split_dim(op.out, 1)[0], dict(op.out[0]).get("state_heads", 1), split_dim(op.inp, 1)[0]


def _chunk(layer: Layer) -> int:
    """Tokens of a chunk, which a prompt is filled up to; Mamba has none. [tokens]"""
    return 1 if "ssm_x" in layer.out else DELTA_CHUNK if "delta_qkvz" in layer.out else SSD_CHUNK


def _fused(layer: Layer) -> int:
    """fp32 elements a token that the kernels leave in memory: the states between chunks, and their decay."""
    state, heads, _ = _state(layer)
    chunk = DELTA_CHUNK if "delta_qkvz" in layer.out else SSD_CHUNK
    return 2 * state // chunk + 2 * heads


def _reference(layer: Layer, inner: int) -> int:
    """fp32 elements a token that the PyTorch code holds at its peak.

    Mamba: three tensors of every channel's state at every token. Mamba-2: three of heads x chunk, three of
    heads x state and seven of the inner width. Gated delta rule: three of heads x chunk, five of keys and
    five of values.
    """
    state, heads, _ = _state(layer)
    if "ssm_x" in layer.out:
        return 3 * state + 3 * inner
    if "delta_qkvz" in layer.out:
        keys = state // max(inner // heads, 1)
        return 3 * heads * DELTA_CHUNK + 5 * keys + 5 * inner
    return 3 * heads * SSD_CHUNK + 3 * state * heads // inner + 7 * inner + state // SSD_CHUNK
