"""Layers that share: keys used as values, the cache of another layer, tables of embeddings for all layers."""

from __future__ import annotations

from llmcalc.model.inventory import Op, Tensor, dim
from llmcalc.model.layers.attention import attention_cache
from llmcalc.model.layers.core import Lowered, builder


@builder
def sharing_attention(
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    bias: bool = False,
    window: int | None = None,
    one_projection: bool = False,
    borrowed: bool = False,
) -> Lowered:
    """Grouped-query attention with q/k norms whose keys and values may not be its own.

    `one_projection` makes keys and values of the same matrix; both are kept, for only the keys are
    rotated. A `borrowed` layer reads what an earlier layer remembers: it has only a query of its own,
    though the checkpoints store key and value that nothing reads.
    """
    made = Lowered()
    h = dim(hidden=hidden)
    query, key = dim(heads=heads, head_dim=head_dim), dim(kv_heads=kv_heads, head_dim=head_dim)
    made.linear("query", query, h, bias)
    if borrowed:
        made.tensors += [Tensor(role, (key, h), tag="duplicate") for role in ("key", "value")]
        made.tensors.append(Tensor("key_norm", (dim(head_dim=head_dim),), tag="duplicate"))
    else:
        made.linear("key", key, h, bias)
        if not one_projection:
            made.linear("value", key, h, bias)
        made.norm("key_norm", dim(head_dim=head_dim))
        made.caches.append(attention_cache("window" if window else "full", key, key, window))
    made.norm("query_norm", dim(head_dim=head_dim))
    made.linear("output", h, query, bias)
    made.ops.append(Op("attention", "attention", query, query, window=window))
    return made


@builder
def layer_embeddings(vocab: int, layers: int, width: int, hidden: int) -> Lowered:
    """A second embedding with `width` numbers for each layer, and what mixes the first into it."""
    made = Lowered()
    all_layers = dim(layer=layers, per_layer=width)
    made.tensors.append(Tensor("layer_embedding", (dim(vocab=vocab), all_layers)))
    made.ops.append(Op("embedding", "layer_embedding", all_layers, dim(vocab=vocab)))
    made.linear("layer_projection", all_layers, dim(hidden=hidden))
    made.norm("layer_projection_norm", dim(per_layer=width))
    return made


@builder
def layer_input(hidden: int, width: int) -> Lowered:
    """How a layer adds its own embedding: a gate, a matrix back to the hidden width, a norm."""
    made = Lowered()
    h, own = dim(hidden=hidden), dim(per_layer=width)
    made.linear("input_gate", own, h)
    made.linear("input_projection", h, own)
    made.norm("input_norm", h)
    return made


@builder
def router_scales(hidden: int, experts: int) -> Lowered:
    """Trained scales of a router: of what it reads, and of what each expert returns."""
    made = Lowered()
    made.parameter("router_scale", dim(hidden=hidden))
    made.parameter("router_output_scale", dim(expert=experts))
    return made


@builder
def alternating_updates(hidden: int, streams: int) -> Lowered:
    """AltUp: the residual is `streams` wide, and a layer reads and predicts all of them."""
    made = Lowered()
    n, h = dim(streams=streams), dim(hidden=hidden)
    made.parameter("altup_scale", h)
    made.linear("altup_correct", n, n)
    made.linear("altup_predict", dim(streams=streams, predicted=streams), n)
    made.linear("altup_router", n, h)
    made.norm("altup_router_norm", h)
    return made


@builder
def laurel(hidden: int, rank: int) -> Lowered:
    """A learned low-rank residual beside attention, with its norm."""
    made = Lowered()
    made.linear("laurel_left", dim(rank=rank), dim(hidden=hidden))
    made.linear("laurel_right", dim(hidden=hidden), dim(rank=rank))
    made.norm("laurel_norm", dim(hidden=hidden))
    return made


@builder
def branch_gates(*roles: str) -> Lowered:
    """One trained number for each branch: how much of it reaches the residual."""
    made = Lowered()
    for role in roles:
        made.parameter(role, dim(one=1))
    return made
