"""Rarer parts of decoders: indexers, compressed caches, hyper-connections, experts in one matrix."""

from __future__ import annotations

from llmcalc.model.inventory import Cache, Dim, Op, Tensor, dim
from llmcalc.model.layers.core import Block, Lowered, builder, lower


@builder
def scalars(*roles: str) -> Lowered:
    """Learned single numbers, such as those of an activation."""
    made = Lowered()
    for role in roles:
        made.parameter(role, dim(one=1))
    return made


@builder
def renamed(block: Block, suffix: str) -> Lowered:
    """A block that stands in a layer for the second time: the same under other roles."""
    made = lower(block)
    for tensor in made.tensors:
        tensor.role += suffix
    for op in made.ops:
        op.role += suffix
    return made


@builder
def indexer(hidden: int, query_rank: int, heads: int, head_dim: int) -> Lowered:
    """DeepSeek's indexer: it scores all positions, and attention looks at the best.

    It keeps one key for each position beside the latent, and takes its query from attention's.
    """
    made = Lowered()
    h, query, key = dim(hidden=hidden), dim(index_heads=heads, index_dim=head_dim), dim(index_dim=head_dim)
    made.linear("index_query", query, dim(rank=query_rank))
    made.linear("index_key", key, h)
    made.norm("index_key_norm", key, True)
    made.linear("index_weights", dim(index_heads=heads), h)
    made.caches.append(Cache("indexer", (("index_key", key),)))
    made.ops.append(Op("attention", "index_scores", query, dim(index_heads=heads, one=1)))
    return made


@builder
def block_indexer(hidden: int, heads: int, head_dim: int) -> Lowered:
    """MiniMax's indexer: it scores blocks of positions for each KV head; one key a position."""
    made = Lowered()
    h, query, key = dim(hidden=hidden), dim(index_heads=heads, index_dim=head_dim), dim(index_dim=head_dim)
    made.linear("index_query", query, h)
    made.linear("index_key", key, h)
    made.norm("index_query_norm", key)
    made.norm("index_key_norm", key)
    made.caches.append(Cache("indexer", (("index_key", key),)))
    made.ops.append(Op("attention", "index_scores", query, dim(index_heads=heads, one=1)))
    return made


@builder
def shared_vector_attention(
    hidden: int,
    heads: int,
    head_dim: int,
    query_rank: int,
    groups: int,
    group_rank: int,
    window: int | None,
) -> Lowered:
    """DeepSeek-V4's attention: one vector of `head_dim` is key and value of all heads, within a window.

    The query is low-rank, the output goes through a matrix for each group of heads and one for all.
    """
    made = Lowered()
    h, query, vector = dim(hidden=hidden), dim(heads=heads, head_dim=head_dim), dim(latent=head_dim)
    grouped = dim(groups=groups, rank=group_rank)
    made.linear("query_a", dim(rank=query_rank), h)
    made.norm("query_a_norm", dim(rank=query_rank))
    made.linear("query_b", query, dim(rank=query_rank))
    made.linear("kv", vector, h)
    made.norm("kv_norm", vector)
    made.linear("output_a", grouped, dim(grouped_width=heads * head_dim // groups))
    made.linear("output_b", h, grouped)
    made.parameter("sinks", dim(heads=heads))
    made.caches.append(Cache("window" if window else "full", (("kv", vector),), window))
    made.ops.append(Op("attention", "attention", query, query, window=window))
    return made


@builder
def compressor(hidden: int, heads: int, head_dim: int, rate: int, overlap: bool) -> Lowered:
    """DeepSeek-V4's long-range memory: one vector for every `rate` tokens, weighed by a learned gate.

    With `overlap` each entry also draws on the `rate` tokens before its own, by a second half of the
    matrices. The tokens that wait for their entry are kept uncompressed, as vectors and gates.
    """
    made = Lowered()
    entry = _compressed(made, "compressor", hidden, head_dim, rate, overlap)
    made.caches.append(Cache("compressed", (("kv", entry),), rate=rate))
    made.caches.append(_tail(head_dim, rate, overlap))
    # As many products as with `rate` times the positions and vectors so much shorter.
    reduced = dim(heads=heads, head_dim=max(1, head_dim // rate))
    if not overlap:  # otherwise an indexer chooses, and its builder says how many
        made.ops.append(Op("attention", "compressed_attention", reduced, reduced))
    return made


@builder
def compressed_indexer(
    hidden: int,
    query_rank: int,
    heads: int,
    head_dim: int,
    rate: int,
    chosen: int,
    read_heads: int,
    read_dim: int,
) -> Lowered:
    """The indexer over compressed entries: it has a compressor of its own, and chooses `chosen` entries."""
    made = Lowered()
    query = dim(index_heads=heads, index_dim=head_dim)
    made.linear("index_query", query, dim(rank=query_rank))
    made.linear("index_weights", dim(index_heads=heads), dim(hidden=hidden))
    entry = _compressed(made, "index_compressor", hidden, head_dim, rate, True)
    made.caches.append(Cache("indexer", (("index_key", entry),), rate=rate))
    made.caches.append(_tail(head_dim, rate, True))
    reduced = dim(index_heads=heads, index_dim=max(1, head_dim // rate))
    made.ops.append(Op("attention", "index_scores", reduced, dim(index_heads=heads, one=1)))
    read = dim(heads=read_heads, head_dim=read_dim)
    made.ops.append(Op("attention", "compressed_attention", read, read, window=chosen))
    return made


def _compressed(made: Lowered, prefix: str, hidden: int, width: int, rate: int, overlap: bool) -> Dim:
    """The tensors of a compressor; returns what one entry is."""
    h, inner = dim(hidden=hidden), dim(halves=2 if overlap else 1, latent=width)
    made.linear(f"{prefix}_kv", inner, h)
    made.linear(f"{prefix}_gate", inner, h)
    made.norm(f"{prefix}_norm", dim(latent=width))
    made.parameter(f"{prefix}_position", dim(position=rate), inner)
    return dim(latent=width)


def _tail(width: int, rate: int, overlap: bool) -> Cache:
    """Tokens that wait for their entry; with overlap both halves of them, and one of the entry before."""
    parts = (("kv", dim(latent=width)), ("gate", dim(latent=width)))
    if not overlap:
        return Cache("tail", parts, rate - 1)
    # transformers empties its buffer with every entry and is left with the half of the entry before.
    return Cache("tail", parts, rate + 2 * (rate - 1), variants={"transformers": Cache("tail", parts, rate)})


@builder
def hyper_connection(role: str, hidden: int, streams: int, mixing: bool = True) -> Lowered:
    """Manifold-constrained hyper-connections: `streams` residual streams, read, written and mixed.

    Without `mixing` it only reads, as before the head.
    """
    made = Lowered()
    out = dim(mix=streams * streams + 2 * streams if mixing else streams)
    read = dim(streams=streams, hidden=hidden)
    made.parameter(f"{role}_fn", out, read, dtype="fp32")
    made.parameter(f"{role}_base", out, dtype="fp32")
    made.parameter(f"{role}_scale", dim(mix=3 if mixing else 1), dtype="fp32")
    made.ops.append(Op("linear", f"{role}_fn", out, read))
    return made


@builder
def hash_routing(vocab: int, top_k: int) -> Lowered:
    """The table that sends each token of the vocabulary to its experts: frozen, no parameter."""
    made = Lowered()
    made.parameter("router_table", dim(vocab_rows=vocab), dim(top_k=top_k), tag="buffer")
    return made


@builder
def stacked_experts(hidden: int, experts: int, top_k: int, ffn: int) -> Lowered:
    """DBRX's experts: each of the three matrices of all experts lies in one, the down matrix input first."""
    made = Lowered()
    h, f = dim(hidden=hidden), dim(ffn=ffn)
    made.linear("router", dim(expert=experts), h)
    for role in ("expert_gate", "expert_up", "expert_down"):
        made.tensors.append(Tensor(role, (dim(expert=experts, ffn=ffn), h)))
        out, inp = (h, f) if role == "expert_down" else (f, h)
        made.ops.append(Op("linear", role, out, inp, top_k, experts))
    made.ops.append(Op("activation", "expert_activation", f, f + f, top_k, experts))
    return made
