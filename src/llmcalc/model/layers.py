"""Layer builders: each kind of attention, feed-forward and state once, as tensors, caches and ops.

A builder called by a family returns a `Block`: a cheap, comparable description. Equal blocks are
grouped and only then expanded, so a model of 126 equal layers is expanded once. Blocks add up:
``gqa(...) + mlp(...)``. A new kind of attention or state is one more function here.

Axis names: ``hidden, heads, kv_heads, head_dim, ffn, expert, vocab, latent, state_heads, groups``.
Axes that tensor parallelism splits are named in `llmcalc.hardware`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

from llmcalc.errors import ConfigError
from llmcalc.model.inventory import Cache, Dim, Op, Tensor, dim

P = ParamSpec("P")
Block = tuple[tuple[Callable[..., Any], tuple[Any, ...], tuple[tuple[str, Any], ...]], ...]


class Lowered:
    """The lists that a layer lowers to, filled by a builder."""

    __slots__ = ("caches", "ops", "tensors")

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.caches: list[Cache] = []
        self.ops: list[Op] = []

    def linear(
        self, role: str, out: Dim, inp: Dim, bias: bool = False, transposed: bool = False,
        active: int = 1, experts: int = 1, fused_experts: bool = False,
    ) -> None:  # fmt: skip
        """Add a matrix (with `experts`, one for each expert) and the product that uses it."""
        lead: tuple[Dim, ...] = (dim(expert=experts),) if experts > 1 or fused_experts else ()
        body = (inp, out) if transposed else (out, inp)
        self.tensors.append(Tensor(role, lead + body))
        if bias:
            self.tensors.append(Tensor(role, (*lead, out), "bias"))
        self.ops.append(Op("linear", role, out, inp, active, experts))

    def norm(self, role: str, width: Dim, bias: bool = False, weight: bool = True) -> None:
        """Add a norm over `width`."""
        if weight:
            self.tensors.append(Tensor(role, (width,)))
            if bias:
                self.tensors.append(Tensor(role, (width,), "bias"))
        self.ops.append(Op("norm", role, width, width))

    def parameter(self, role: str, *dims: Dim, tag: str = "main", dtype: str | None = None) -> None:
        """Add a bare parameter."""
        self.tensors.append(Tensor(role, dims, "", tag, dtype))


def builder(function: Callable[P, Lowered]) -> Callable[P, Block]:
    """Make a layer builder return its call as a comparable block, to be expanded once."""

    def call(*args: P.args, **kwargs: P.kwargs) -> Block:
        return ((function, args, tuple(kwargs.items())),)

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    call.__module__ = function.__module__
    return call


def lower(block: Block) -> Lowered:
    """Expand a block into its tensors, caches and ops."""
    whole = Lowered()
    for function, args, kwargs in block:
        part: Lowered = function(*args, **dict(kwargs))
        whole.tensors += part.tensors
        whole.caches += part.caches
        whole.ops += part.ops
    return whole


def attention_cache(kind: str, key: Dim, value: Dim, window: int | None) -> Cache:
    """Keys and values of one layer: all positions, or those of a window or chunk."""
    return Cache(kind, (("k", key), ("v", value)), window)


@builder
def norm(role: str, width: int, bias: bool = False, weight: bool = True) -> Lowered:
    """A norm over the hidden width: RMSNorm, or LayerNorm with its bias."""
    made = Lowered()
    made.norm(role, dim(hidden=width), bias, weight)
    return made


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
) -> Lowered:
    """Multi-head, grouped-query and multi-query attention, with or without a window.

    `bias` is that of query, key and value, `out_bias` of the output projection. `qk_norm` is ``head``
    (one norm of `head_dim` shared by all heads), ``width`` (over all heads) or empty. `fused` stores
    query, key and value as one matrix. `gated` doubles the query projection with an output gate.
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
        made.linear("key", key, h, bias, transposed)
        made.linear("value", value, h, bias, transposed)
    made.linear("output", h, read, out_bias, transposed)
    if qk_norm == "head":
        made.norm("query_norm", dim(head_dim=head_dim), norm_bias)
        made.norm("key_norm", dim(head_dim=head_dim), norm_bias)
    elif qk_norm == "width":
        made.norm("query_norm", dim(heads=heads, head_dim=head_dim), norm_bias)
        made.norm("key_norm", dim(kv_heads=kv_heads, head_dim=head_dim), norm_bias)
    if sinks:
        made.parameter("sinks", dim(heads=heads))
    made.caches.append(attention_cache(kind or ("window" if window else "full"), key, value, window))
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
) -> Lowered:
    """Multi-head latent attention: the cache is one latent and one rotary key for all heads.

    With `q_rank` the query goes through a low-rank pair with its own norm. `bias` is that of the
    down-projections and of the output, as in DeepSeek's classes.
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
    made.ops.append(Op("attention", "attention", query, dim(heads=heads, head_dim=value_dim)))
    return made


@builder
def mlp(
    hidden: int,
    ffn: int,
    *,
    gated: bool = True,
    bias: bool = False,
    fused: bool = False,
    transposed: bool = False,
) -> Lowered:
    """A feed-forward layer of two matrices, or three with a gate; `fused` stores gate and up as one."""
    made = Lowered()
    _feed_forward(made, "", hidden, ffn, gated, bias, fused, transposed)
    return made


def _feed_forward(
    made: Lowered, prefix: str, hidden: int, ffn: int, gated: bool, bias: bool, fused: bool = False,
    transposed: bool = False,
) -> None:  # fmt: skip
    h, f = dim(hidden=hidden), dim(ffn=ffn)
    if gated and fused:
        made.linear(f"{prefix}gate_up", f + f, h, bias, transposed)
    else:
        if gated:
            made.linear(f"{prefix}gate", f, h, bias, transposed)
        made.linear(f"{prefix}up", f, h, bias, transposed)
    made.ops.append(Op("activation", f"{prefix}activation", f, f + f if gated else f))
    made.linear(f"{prefix}down", h, f, bias, transposed)


@builder
def moe(
    hidden: int,
    experts: int,
    top_k: int,
    ffn: int,
    *,
    gated: bool = True,
    bias: bool = False,
    router_bias: bool = False,
    correction: bool = False,
    fused: bool = False,
    shared_ffn: int = 0,
    shared_gate: bool = False,
) -> Lowered:
    """Routed experts, all stored and `top_k` active per token, with or without a shared one.

    `correction` is the router's load-balancing bias: a buffer in transformers, a tensor in the
    checkpoint. `fused` stores gate and up of all experts as one tensor.
    """
    if top_k > experts:
        raise ConfigError(
            f"num_experts_per_tok {top_k} is more than the {experts} experts there are.",
            "Correct one of the two.",
        )
    made = Lowered()
    h, f, e = dim(hidden=hidden), dim(ffn=ffn), dim(expert=experts)
    made.linear("router", e, h, router_bias)
    if correction:
        made.parameter("router_correction", e, tag="buffer", dtype="fp32")
    if gated and fused:
        made.linear("expert_gate_up", f + f, h, bias, True, top_k, experts, True)
    else:
        if gated:
            made.linear("expert_gate", f, h, bias, False, top_k, experts, True)
        made.linear("expert_up", f, h, bias, False, top_k, experts, True)
    made.ops.append(Op("activation", "expert_activation", f, f + f if gated else f, top_k, experts))
    made.linear("expert_down", h, f, bias, fused, top_k, experts, True)
    if shared_ffn:
        _feed_forward(made, "shared_", hidden, shared_ffn, gated, False)
    if shared_gate:
        made.linear("shared_router", dim(one=1), h)
    return made


@builder
def gated_delta_net(
    hidden: int,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    value_dim: int,
    kernel: int,
    *,
    state: str = "fp32",
) -> Lowered:
    """Gated DeltaNet: a recurrent state per value head and a short convolution before it.

    The state is ``key_dim x value_dim`` per value head; the convolution remembers ``kernel - 1``
    columns of query, key and value.
    """
    made = Lowered()
    h = dim(hidden=hidden)
    keys = dim(key_heads=key_heads, key_dim=key_dim)
    values = dim(state_heads=value_heads, value_dim=value_dim)
    heads = dim(state_heads=value_heads)
    made.linear("delta_qkvz", keys + keys + values + values, h)
    made.linear("delta_ba", heads + heads, h)
    made.tensors.append(Tensor("conv", (keys + keys + values, dim(one=1), dim(kernel=kernel))))
    made.ops.append(Op("conv", "conv", keys + keys + values, dim(kernel=kernel)))
    made.parameter("dt_bias", heads)
    made.parameter("a_log", heads)
    made.norm("delta_norm", dim(value_dim=value_dim))
    made.linear("delta_out", h, values)
    state_width = dim(state_heads=value_heads, key_dim=key_dim, value_dim=value_dim)
    made.caches.append(Cache("recurrent", (("state", state_width),), 1, state))
    made.caches.append(Cache("conv", (("columns", keys + keys + values),), kernel - 1, "model"))
    made.ops.append(Op("scan", "scan", state_width, values))
    return made


@builder
def mamba2(
    hidden: int,
    heads: int,
    head_dim: int,
    groups: int,
    state_size: int,
    kernel: int,
    *,
    bias: bool = False,
    conv_bias: bool = True,
    state: str = "fp32",
) -> Lowered:
    """Mamba-2: a state of ``head_dim x state_size`` per head and a convolution over x, B and C."""
    made = Lowered()
    h = dim(hidden=hidden)
    inner = dim(state_heads=heads, head_dim=head_dim)
    bc = dim(groups=groups, state=state_size)
    convolved = inner + bc + bc
    made.linear("ssm_in", inner + convolved + dim(state_heads=heads), h, bias)
    made.tensors.append(Tensor("conv", (convolved, dim(one=1), dim(kernel=kernel))))
    if conv_bias:
        made.tensors.append(Tensor("conv", (convolved,), "bias"))
    made.ops.append(Op("conv", "conv", convolved, dim(kernel=kernel)))
    for role in ("dt_bias", "a_log", "skip"):
        made.parameter(role, dim(state_heads=heads))
    made.norm("ssm_norm", inner)
    made.linear("ssm_out", h, inner, bias)
    state_width = dim(state_heads=heads, head_dim=head_dim, state=state_size)
    made.caches.append(Cache("recurrent", (("state", state_width),), 1, state))
    made.caches.append(Cache("conv", (("columns", convolved),), kernel - 1, "model"))
    made.ops.append(Op("scan", "scan", state_width, inner))
    return made


@builder
def embedding(vocab: int, width: int) -> Lowered:
    """The token embedding."""
    made = Lowered()
    made.tensors.append(Tensor("embedding", (dim(vocab=vocab), dim(hidden=width))))
    made.ops.append(Op("embedding", "embedding", dim(hidden=width), dim(vocab=vocab)))
    return made


@builder
def positions(rows: int, width: int) -> Lowered:
    """Learned absolute positions."""
    made = Lowered()
    made.tensors.append(Tensor("position", (dim(position=rows), dim(hidden=width))))
    made.ops.append(Op("embedding", "position", dim(hidden=width), dim(position=rows)))
    return made


@builder
def projection(role: str, out: int, inp: int, bias: bool = False, out_axis: str = "hidden") -> Lowered:
    """A plain matrix outside the layers, such as OPT's between embedding and hidden width."""
    made = Lowered()
    made.linear(role, dim(**{out_axis: out}), dim(hidden=inp), bias)
    return made


@builder
def head(vocab: int, width: int, *, tied: bool = False, bias: bool = False) -> Lowered:
    """The unembedding; tied to the embedding it is executed but not stored again."""
    made = Lowered()
    if tied:
        made.ops.append(Op("linear", "embedding", dim(vocab=vocab), dim(hidden=width)))
        if bias:
            made.tensors.append(Tensor("unembedding", (dim(vocab=vocab),), "bias"))
    else:
        made.linear("unembedding", dim(vocab=vocab), dim(hidden=width), bias)
    return made


@builder
def patches(width: int, channels: int, size: int, count: int, *, bias: bool = True) -> Lowered:
    """A vision tower's patch convolution and its table of learned positions."""
    made = Lowered()
    kernel = (dim(width=width), dim(channels=channels), dim(patch=size), dim(patch=size))
    made.tensors.append(Tensor("patch", kernel))
    if bias:
        made.tensors.append(Tensor("patch", (dim(width=width),), "bias"))
    made.ops.append(Op("linear", "patch", dim(width=width), dim(channels=channels, rows=size, columns=size)))
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
