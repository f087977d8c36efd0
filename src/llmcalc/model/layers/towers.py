"""Vision and audio towers, which keep no cache."""

from __future__ import annotations

from llmcalc.model.inventory import Op, Tensor, dim
from llmcalc.model.layers.core import Lowered, builder


@builder
def patches(width: int, channels: int, size: int, count: int, *, bias: bool = True) -> Lowered:
    """A vision tower's patch convolution and its table of `count` learned positions."""
    made = Lowered()
    kernel = (dim(width=width), dim(channels=channels), dim(patch=size), dim(patch=size))
    made.tensors.append(Tensor("patch", kernel))
    if bias:
        made.tensors.append(Tensor("patch", (dim(width=width),), "bias"))
    made.ops.append(Op("linear", "patch", dim(width=width), dim(channels=channels, rows=size, columns=size)))
    if count:
        made.tensors.append(Tensor("position", (dim(position=count), dim(width=width))))
    return made


@builder
def tower_layer(width: int, heads: int, ffn: int) -> Lowered:
    """One layer of a vision transformer: two LayerNorms, attention and MLP, all with biases, no cache."""
    made = Lowered()
    if width % heads:
        heads = 1
    w, inner, f = dim(width=width), dim(tower_heads=heads, head_dim=width // heads), dim(tower_ffn=ffn)
    made.norm("attn_norm", w, True)
    for role in ("query", "key", "value"):
        made.linear(role, inner, w, True)
    made.linear("output", w, inner, True)
    made.ops.append(Op("attention", "attention", inner, inner))
    made.norm("ffn_norm", w, True)
    made.linear("up", f, w, True)
    made.ops.append(Op("activation", "activation", f, f))
    made.linear("down", w, f, True)
    return made
