"""Attention: grouped-query and its kin, and multi-head latent attention."""

from __future__ import annotations

from llmcalc.model.inventory import Cache, Dim, Op, Tensor, dim
from llmcalc.model.layers.core import Lowered, builder


def attention_cache(kind: str, key: Dim, value: Dim, window: int | None) -> Cache:
    """Keys and values of one layer: all positions, or those of a window or chunk."""
    return Cache(kind, (("k", key), ("v", value)), window)


@builder
def gqa(
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    value_dim: int = 0,
    bias: bool = False,
    out_bias: bool = False,
    qk_norm: str = "",
    norm_bias: bool = False,
    fused: bool = False,
    window: int | None = None,
    kind: str = "",
    sinks: bool = False,
    gated: bool = False,
    transposed: bool = False,
    broadcast: bool = False,
    key_bias: bool | None = None,
    cached: bool = True,
) -> Lowered:
    """Multi-head, grouped-query and multi-query attention, with or without a window.

    `bias` is that of query, key and value (`key_bias` where the key differs), `out_bias` of the output
    projection. Without `cached` it is an encoder's: nothing is remembered. `qk_norm` is ``head``
    (one norm of `head_dim` shared by all heads), ``heads`` (one for each), ``width`` (over all heads)
    or empty. `fused` stores query, key and value as one matrix. `gated` doubles the query projection
    with an output gate.
    `broadcast` says that transformers repeats keys and values for every query head before it caches.
    """
    value_dim = value_dim or head_dim
    made = Lowered()
    h = dim(hidden=hidden)
    query = dim(heads=heads, head_dim=head_dim * (2 if gated else 1))
    key, value = dim(kv_heads=kv_heads, head_dim=head_dim), dim(kv_heads=kv_heads, head_dim=value_dim)
    read = dim(heads=heads, head_dim=value_dim)
    if fused:
        made.linear("qkv", query + key + value, h, bias, transposed)
    else:
        made.linear("query", query, h, bias, transposed)
        made.linear("key", key, h, bias if key_bias is None else key_bias, transposed)
        made.linear("value", value, h, bias, transposed)
    made.linear("output", h, read, out_bias, transposed)
    if qk_norm == "head":
        made.norm("query_norm", dim(head_dim=head_dim), norm_bias)
        made.norm("key_norm", dim(head_dim=head_dim), norm_bias)
    elif qk_norm == "heads":
        made.tensors.append(Tensor("query_norm", (dim(heads=heads), dim(head_dim=head_dim))))
        made.tensors.append(Tensor("key_norm", (dim(kv_heads=kv_heads), dim(head_dim=head_dim))))
        made.ops.append(Op("norm", "query_norm", query, query))
        made.ops.append(Op("norm", "key_norm", key, key))
    elif qk_norm == "width":
        made.norm("query_norm", dim(heads=heads, head_dim=head_dim), norm_bias)
        made.norm("key_norm", dim(kv_heads=kv_heads, head_dim=head_dim), norm_bias)
    if sinks:
        made.parameter("sinks", dim(heads=heads))
    cache = attention_cache(kind or ("window" if window else "full"), key, value, window)
    if broadcast:
        repeated = dim(heads=heads, head_dim=head_dim), dim(heads=heads, head_dim=value_dim)
        cache.variants = {"transformers": attention_cache("full", *repeated, None)}
    if cached:
        made.caches.append(cache)
    made.ops.append(Op("attention", "attention", dim(heads=heads, head_dim=head_dim), read, window=window))
    return made


@builder
def mla(
    hidden: int,
    heads: int,
    kv_rank: int,
    nope_dim: int,
    rope_dim: int,
    value_dim: int,
    *,
    q_rank: int | None = None,
    bias: bool = False,
    chosen: int | None = None,
) -> Lowered:
    """Multi-head latent attention: the cache is one latent and one rotary key for all heads.

    With `q_rank` the query goes through a low-rank pair with its own norm. `bias` is that of the
    down-projections and of the output, as in DeepSeek's classes. `chosen` positions are attended to
    where an indexer chooses them; all are kept.
    """
    made = Lowered()
    h, latent, rotary = dim(hidden=hidden), dim(latent=kv_rank), dim(rotary=rope_dim)
    query = dim(heads=heads, head_dim=nope_dim + rope_dim)
    if q_rank:
        made.linear("query_a", dim(rank=q_rank), h, bias)
        made.norm("query_a_norm", dim(rank=q_rank))
        made.linear("query_b", query, dim(rank=q_rank))
    else:
        made.linear("query", query, h)
    made.linear("kv_a", latent + rotary, h, bias)
    made.norm("kv_a_norm", latent)
    made.linear("kv_b", dim(heads=heads, head_dim=nope_dim + value_dim), latent)
    made.linear("output", h, dim(heads=heads, head_dim=value_dim), bias)
    made.caches.append(Cache("latent", (("latent", latent), ("rotary", rotary))))
    read = dim(heads=heads, head_dim=value_dim)
    made.ops.append(Op("attention", "attention", query, read, window=chosen))
    return made
