"""Encoders, towers and what joins them to a decoder: attention without a cache, cross-attention, patches."""

from __future__ import annotations

from llmcalc.model.inventory import Cache, Op, Tensor, dim
from llmcalc.model.layers.core import Lowered, builder


@builder
def cross_attention(
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    source: int = 0,
    stream: str = "encoder",
    bias: bool = False,
    key_bias: bool | None = None,
    qk_norm: bool = False,
    prefix: str = "cross_",
) -> Lowered:
    """Attention to another stream: its keys and values are computed once and kept for all steps.

    `source` is the width of that stream, where it is not the decoder's own.
    """
    made = Lowered()
    h, other = dim(hidden=hidden), dim(hidden=source or hidden)
    query, key = dim(heads=heads, head_dim=head_dim), dim(kv_heads=kv_heads, head_dim=head_dim)
    made.linear(f"{prefix}query", query, h, bias)
    made.linear(f"{prefix}key", key, other, bias if key_bias is None else key_bias)
    made.linear(f"{prefix}value", key, other, bias)
    made.linear(f"{prefix}output", h, query, bias)
    if qk_norm:
        made.norm(f"{prefix}query_norm", dim(head_dim=head_dim))
        made.norm(f"{prefix}key_norm", dim(head_dim=head_dim))
    made.caches.append(Cache("cross", (("k", key), ("v", key)), None, stream=stream))
    made.ops.append(Op("attention", "cross_attention", query, query))
    return made


@builder
def tower_attention(
    width: int,
    heads: int,
    *,
    head_dim: int = 0,
    kv_heads: int = 0,
    bias: bool = True,
    key_bias: bool | None = None,
    out_bias: bool | None = None,
    fused: bool = False,
    qk_norm: bool = False,
) -> Lowered:
    """Attention inside a tower: nothing is remembered, and tensor parallelism leaves it whole."""
    made = Lowered()
    head_dim = head_dim or width // heads
    w, query = dim(width=width), dim(tower_heads=heads, head_dim=head_dim)
    key = dim(tower_heads=kv_heads or heads, head_dim=head_dim)
    if fused:
        made.linear("qkv", query + key + key, w, bias)
    else:
        made.linear("query", query, w, bias)
        made.linear("key", key, w, bias if key_bias is None else key_bias)
        made.linear("value", key, w, bias)
    made.linear("output", w, query, bias if out_bias is None else out_bias)
    if qk_norm:
        made.norm("query_norm", dim(head_dim=head_dim))
        made.norm("key_norm", dim(head_dim=head_dim))
    made.ops.append(Op("attention", "attention", query, query))
    return made


@builder
def tower_mlp(width: int, ffn: int, *, gated: bool = False, bias: bool = True, prefix: str = "") -> Lowered:
    """The feed-forward layer of a tower: two matrices, or three with a gate."""
    made = Lowered()
    w, f = dim(width=width), dim(tower_ffn=ffn)
    if gated:
        made.linear(f"{prefix}gate", f, w, bias)
    made.linear(f"{prefix}up", f, w, bias)
    made.ops.append(Op("activation", f"{prefix}activation", f, f + f if gated else f))
    made.linear(f"{prefix}down", w, f, bias)
    return made


@builder
def convolution(role: str, out: int, inp: int, *kernel: int, bias: bool = True) -> Lowered:
    """A convolution outside the layers, over one axis or two."""
    made = Lowered()
    taps = tuple(dim(kernel=size) for size in kernel)
    made.tensors.append(Tensor(role, (dim(width=out), dim(channels=inp), *taps)))
    if bias:
        made.tensors.append(Tensor(role, (dim(width=out),), "bias"))
    inner = dim(channels=inp, **{f"kernel_{place}": size for place, size in enumerate(kernel)})
    made.ops.append(Op("linear", role, dim(width=out), inner))
    return made


@builder
def table(role: str, *sizes: int, part: str = "weight") -> Lowered:
    """A stored table that is looked up or added: positions, segments, a class token, a gate."""
    made = Lowered()
    made.tensors.append(Tensor(role, tuple(dim(rows=size) for size in sizes), part))
    return made


@builder
def buffer(role: str, *sizes: int) -> Lowered:
    """What the checkpoint stores beside the parameters, such as a scale that was never trained."""
    made = Lowered()
    made.parameter(role, *(dim(rows=size) for size in sizes), tag="buffer")
    return made


@builder
def linear(role: str, out: int, inp: int, *, bias: bool = False) -> Lowered:
    """A plain matrix of a tower or projector."""
    made = Lowered()
    made.linear(role, dim(width=out), dim(width=inp), bias)
    return made


@builder
def relative_positions(buckets: int, heads: int) -> Lowered:
    """A bias for each head and each range of distances between two tokens."""
    made = Lowered()
    made.tensors.append(Tensor("relative_position", (dim(position=buckets), dim(heads=heads))))
    return made


@builder
def second_head(vocab: int, width: int) -> Lowered:
    """An unembedding that the checkpoint stores although the class ties it to the embedding."""
    made = Lowered()
    made.tensors.append(Tensor("second_head", (dim(vocab=vocab), dim(hidden=width)), tag="duplicate"))
    return made


@builder
def conformer_layer(width: int, heads: int, kernel: int) -> Lowered:
    """One layer of a conformer: half a feed-forward layer, attention, a short convolution, the other half."""
    made = Lowered()
    w, f, inner = dim(width=width), dim(tower_ffn=4 * width), dim(tower_heads=heads, head_dim=width // heads)
    for half in ("first", "second"):
        made.norm(f"{half}_ffn_norm", w)
        made.linear(f"{half}_up", f, w)
        made.ops.append(Op("activation", f"{half}_activation", f, f))
        made.linear(f"{half}_down", w, f)
        made.norm(f"{half}_post_ffn_norm", w)
    made.norm("attn_norm", w)
    for role in ("query", "key", "value", "relative_key"):
        made.linear(role, inner, w)
    made.parameter("per_dim_scale", dim(head_dim=width // heads))
    made.linear("output", w, inner)
    made.ops.append(Op("attention", "attention", inner, inner))
    made.norm("post_attn_norm", w)
    made.norm("conv_in_norm", w)
    made.linear("conv_in", w + w, w)
    made.tensors.append(Tensor("conv", (w, dim(one=1), dim(kernel=kernel))))
    made.ops.append(Op("conv", "conv", w, dim(kernel=kernel)))
    made.norm("conv_norm", w)
    made.linear("conv_out", w, w)
    made.norm("final_norm", w)
    return made


@builder
def vision_experts(hidden: int, experts: int, top_k: int, ffn: int) -> Lowered:
    """Routed experts of the image tokens, beside those of the text; with a router and a correction."""
    made = Lowered()
    h, f, e = dim(hidden=hidden), dim(ffn=ffn), dim(expert=experts)
    made.linear("vision_router", e, h)
    made.parameter("vision_router_correction", dim(one=1), e, dtype="fp32")
    made.linear("expert_vision_gate_up", f + f, h, False, False, top_k, experts, True)
    made.ops.append(Op("activation", "expert_vision_activation", f, f + f, top_k, experts))
    made.linear("expert_vision_down", h, f, False, False, top_k, experts, True)
    return made
