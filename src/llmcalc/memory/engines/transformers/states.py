"""Recurrent layers in transformers: a projection, a short convolution, a scan over the chunk.

Counted as with the kernels of mamba-ssm, causal-conv1d and flash-linear-attention, which keep a chunk's
inner products on the chip; the fallback in plain PyTorch holds them all.
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


def scan(run: Pass, layer: Layer) -> Block:
    """From the normed input to the output projection; states are made anew and the old ones let go."""
    ledger = run.ledger
    made = [run.make(layer.out[role], LABEL) for role in INPUTS if role in layer.out]
    if "conv" in layer.ops:
        channels = split_dim(layer.ops["conv"].out, 1)[0]
        made.append(run.make(channels, LABEL, run.make(channels, LABEL)))
    inner = split_dim(layer.ops["scan"].inp, 1)[0] if "scan" in layer.ops else run.hidden
    out = run.make(inner, LABEL)
    if layer.norms & {"ssm_norm", "delta_norm"}:
        out = run.norm(inner, LABEL, out)
    result = run.make(run.hidden, "hidden states")
    ledger.drop(out, *made)
    return result
