"""Mixers of hybrid and state-space models: Mamba-1, delta nets, lightning, RWKV, short convolutions.

Their inner channels have the axis ``state_heads``, by which engines split them over devices.
"""

from __future__ import annotations

from llmcalc.model.inventory import Cache, Dim, Op, Tensor, dim
from llmcalc.model.layers.attention import attention_cache
from llmcalc.model.layers.core import Lowered, builder

ONE = dim(one=1)


def _convolve(made: Lowered, role: str, channels: Dim, kernel: int, bias: bool = False) -> None:
    """Add a depthwise convolution over the last `kernel` positions."""
    made.tensors.append(Tensor(role, (channels, ONE, dim(kernel=kernel))))
    if bias:
        made.tensors.append(Tensor(role, (channels,), "bias"))
    made.ops.append(Op("conv", role, channels, dim(kernel=kernel)))


def _remember(
    made: Lowered, state: Dim, read: Dim, precision: str, columns: Dim = (), kernel: int = 1
) -> None:
    """Add a recurrent state, the columns of the convolution before it, and the scan."""
    made.caches.append(Cache("recurrent", (("state", state),), 1, precision))
    if kernel > 1:
        made.caches.append(Cache("conv", (("columns", columns),), kernel - 1, "model"))
    made.ops.append(Op("scan", "scan", state, read))


@builder
def mamba1(
    hidden: int,
    inner: int,
    state_size: int,
    rank: int,
    kernel: int,
    *,
    heads: int = 1,
    bias: bool = False,
    conv_bias: bool = True,
    norms: bool = False,
    state: str = "fp32",
) -> Lowered:
    """Mamba-1: a state of `state_size` per channel, its step from a low-rank pair of matrices.

    `norms` are those that Jamba puts on step, B and C. With `heads` the two small projections are
    stored head by head, as bare parameters.
    """
    made = Lowered()
    h, channels, step, b = dim(hidden=hidden), dim(state_heads=inner), dim(rank=rank), dim(state=state_size)
    made.linear("ssm_in", channels + channels, h, bias)
    _convolve(made, "conv", channels, kernel, conv_bias)
    if heads > 1:
        head, inside = dim(heads=heads), dim(state_heads=inner // heads)
        made.parameter("ssm_x", head, step + b + b, inside)
        made.parameter("ssm_dt", head, inside, step)
        made.parameter("ssm_dt_bias", head, inside)
        made.parameter("a_log", head, inside, b)
        made.parameter("skip", head, inside)
        made.ops += [Op("linear", "ssm_x", step + b + b, channels), Op("linear", "ssm_dt", channels, step)]
    else:
        made.linear("ssm_x", step + b + b, channels)
        made.linear("ssm_dt", channels, step, True)
        made.parameter("a_log", channels, b)
        made.parameter("skip", channels)
    if norms:
        made.norm("dt_norm", step)
        made.norm("b_norm", b)
        made.norm("c_norm", b)
    made.linear("ssm_out", h, channels, bias)
    _remember(made, dim(state_heads=inner, state=state_size), channels, state, channels, kernel)
    return made


@builder
def short_convolution(hidden: int, kernel: int, *, bias: bool = False) -> Lowered:
    """LFM's mixer: a gated convolution over the last positions, and nothing else to remember."""
    made = Lowered()
    h, channels = dim(hidden=hidden), dim(state_heads=hidden)
    made.linear("short_in", channels + channels + channels, h, bias)
    _convolve(made, "short_conv", channels, kernel, bias)
    made.linear("short_out", h, channels, bias)
    made.caches.append(Cache("conv", (("columns", channels),), kernel - 1, "model"))
    return made


@builder
def delta_net(
    hidden: int,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    value_dim: int,
    kernel: int,
    *,
    apart: bool = False,
    state: str = "fp32",
) -> Lowered:
    """Gated DeltaNet with projections of its own for gate, beta and decay.

    `apart` also stores query, key and value, and their convolutions, as matrices of their own.
    """
    made = Lowered()
    h, heads = dim(hidden=hidden), dim(state_heads=value_heads)
    keys = dim(key_heads=key_heads, key_dim=key_dim)
    values = dim(state_heads=value_heads, value_dim=value_dim)
    if apart:
        for word, width in (("query", keys), ("key", keys), ("value", values)):
            made.linear(f"delta_{word}", width, h)
            _convolve(made, f"conv_{word}", width, kernel)
    else:
        made.linear("delta_qkv", keys + keys + values, h)
        _convolve(made, "conv", keys + keys + values, kernel)
    made.linear("delta_gate", values, h)
    made.linear("delta_b", heads, h)
    made.linear("delta_a", heads, h)
    made.parameter("dt_bias", heads)
    made.parameter("a_log", heads)
    made.norm("delta_norm", dim(value_dim=value_dim))
    made.linear("delta_out", h, values)
    width = dim(state_heads=value_heads, key_dim=key_dim, value_dim=value_dim)
    _remember(made, width, values, state, keys + keys + values, kernel)
    return made


@builder
def kimi_delta(
    hidden: int,
    heads: int,
    head_dim: int,
    kernel: int,
    *,
    forget_rank: int = 0,
    gate_rank: int = 0,
    log_shape: tuple[int, ...] = (),
    state: str = "fp32",
) -> Lowered:
    """Kimi Delta Attention: a delta net whose decay differs by channel.

    Forget gate and output gate are one matrix each, or low-rank pairs. `log_shape` is how the decay is
    stored, where that is not one number a head.
    """
    made = Lowered()
    h, count, width = dim(hidden=hidden), dim(state_heads=heads), dim(state_heads=heads, head_dim=head_dim)
    for word in ("query", "key", "value"):
        made.linear(f"delta_{word}", width, h)
        _convolve(made, f"conv_{word}", width, kernel)
    for word, rank in (("forget", forget_rank), ("gate", gate_rank)):
        if rank:
            made.linear(f"delta_{word}_a", dim(rank=rank), h)
            made.linear(f"delta_{word}_b", width, dim(rank=rank))
        else:
            made.linear(f"delta_{word}", width, h)
    made.linear("delta_b", count, h)
    made.parameter("dt_bias", width)
    made.parameter("a_log", *([dim(log=length) for length in log_shape] if log_shape else [count]))
    made.norm("delta_norm", dim(value_dim=head_dim))
    made.linear("delta_out", h, width)
    square = dim(state_heads=heads, key_dim=head_dim, value_dim=head_dim)
    _remember(made, square, width, state, width + width + width, kernel)
    return made


@builder
def lightning(hidden: int, heads: int, head_dim: int, *, state: str = "fp32") -> Lowered:
    """Lightning attention: linear attention with a fixed decay per head and an output gate."""
    made = Lowered()
    h, width = dim(hidden=hidden), dim(state_heads=heads, head_dim=head_dim)
    made.linear("linear_qkv", width + width + width, h)
    made.norm("linear_norm", width)
    made.linear("linear_gate", width, h)
    made.linear("linear_out", h, width)
    _remember(made, dim(state_heads=heads, key_dim=head_dim, value_dim=head_dim), width, state)
    return made


@builder
def block_indexer(hidden: int, heads: int, head_dim: int) -> Lowered:
    """Scores blocks of keys for sparse attention, with one key of its own per token."""
    made = Lowered()
    h, query, key = dim(hidden=hidden), dim(index_heads=heads, head_dim=head_dim), dim(head_dim=head_dim)
    made.linear("index_query", query, h)
    made.linear("index_key", key, h)
    made.norm("index_query_norm", key)
    made.norm("index_key_norm", key)
    made.caches.append(Cache("indexer", (("k", key),)))
    made.ops.append(Op("attention", "indexer", query, query))
    return made


@builder
def time_mixing(hidden: int, inner: int, *, head_size: int = 0) -> Lowered:
    """RWKV's attention: a weighted sum of the past, and the token before.

    RWKV-4 remembers three numbers per channel. With `head_size` it is RWKV-5: a square state per
    head, a gate, and a norm over each head.
    """
    made = Lowered()
    h, channels = dim(hidden=hidden), dim(state_heads=inner)
    per_head = (dim(state_heads=inner // head_size), dim(head_dim=head_size)) if head_size else (channels,)
    made.parameter("time_decay", *per_head)
    made.parameter("time_first", *per_head)
    words = ("key", "value", "receptance", "gate") if head_size else ("key", "value", "receptance")
    for word in words:
        made.parameter(f"time_mix_{word}", ONE, ONE, h)
        made.linear(f"time_{word}", channels, h)
    made.linear("time_out", h, channels)
    if head_size:
        made.norm("time_norm", channels, True)
    heads = inner // head_size if head_size else inner
    square = dim(state_heads=heads, key_dim=head_size, value_dim=head_size)
    _remember(made, square if head_size else dim(state_heads=inner, numbers=3), channels, "fp32")
    made.caches.append(Cache("recurrent", (("before", h),), 1, "model"))
    return made


@builder
def channel_mixing(hidden: int, ffn: int) -> Lowered:
    """RWKV's feed-forward layer, which also looks at the token before."""
    made = Lowered()
    h, f = dim(hidden=hidden), dim(ffn=ffn)
    made.parameter("channel_mix_key", ONE, ONE, h)
    made.parameter("channel_mix_receptance", ONE, ONE, h)
    made.linear("channel_key", f, h)
    made.ops.append(Op("activation", "channel_activation", f, f))
    made.linear("channel_receptance", h, h)
    made.linear("channel_value", h, f)
    made.caches.append(Cache("recurrent", (("before", h),), 1, "model"))
    return made


@builder
def adapter(role: str, out: int, rank: int, inp: int) -> Lowered:
    """A low-rank pair of matrices beside a shared one."""
    made = Lowered()
    made.linear(f"{role}_a", dim(rank=rank), dim(hidden=inp))
    made.linear(f"{role}_b", dim(ffn=out), dim(rank=rank))
    return made


@builder
def volume_patches(
    width: int, channels: int, frames: int, size: int, count: int = 0, *, bias: bool = True
) -> Lowered:
    """A vision tower's patch convolution over `frames` images, with a table of `count` positions."""
    made = Lowered()
    w = dim(width=width)
    kernel = dim(channels=channels), dim(frames=frames), dim(patch=size), dim(patch=size)
    made.tensors.append(Tensor("patch", (w, *kernel)))
    if bias:
        made.tensors.append(Tensor("patch", (w,), "bias"))
    made.ops.append(Op("linear", "patch", w, dim(channels=channels, frames=frames, rows=size, columns=size)))
    if count:
        made.tensors.append(Tensor("position", (dim(position=count), w)))
    return made


@builder
def grid_positions(rows: int, columns: int, width: int) -> Lowered:
    """Learned positions of a grid of patches."""
    made = Lowered()
    made.tensors.append(Tensor("position", (dim(rows=rows), dim(columns=columns), dim(width=width))))
    return made


@builder
def vision_layer(
    width: int,
    heads: int,
    ffn: int,
    *,
    inner_width: int = 0,
    fused: bool = True,
    bias: bool = True,
    norm_bias: bool = True,
    gated: bool = False,
) -> Lowered:
    """One layer of a vision tower: two norms, attention and MLP; no cache.

    `bias` is that of all matrices; `inner_width` that of attention, where it is not the tower's.
    """
    made = Lowered()
    inner_width = inner_width or width
    w, f = dim(width=width), dim(tower_ffn=ffn)
    inner = dim(tower_heads=heads, head_dim=inner_width // heads)
    made.norm("attn_norm", w, norm_bias)
    if fused:
        made.linear("qkv", inner + inner + inner, w, bias)
    else:
        for role in ("query", "key", "value"):
            made.linear(role, inner, w, bias)
    made.linear("output", w, inner, bias)
    made.ops.append(Op("attention", "attention", inner, inner))
    made.norm("ffn_norm", w, norm_bias)
    if gated:
        made.linear("gate", f, w, bias)
    made.linear("up", f, w, bias)
    made.ops.append(Op("activation", "activation", f, f + f if gated else f))
    made.linear("down", w, f, bias)
    return made


@builder
def merger(
    width: int, joined: int, out: int, *, norm_width: int = 0, norm_bias: bool = True, bias: bool = True
) -> Lowered:
    """Joins `joined` neighbouring patches into one token: a norm and two matrices."""
    made = Lowered()
    wide = dim(width=width * joined)
    made.norm("merge_norm", dim(width=norm_width or width), norm_bias)
    made.linear("merge_up", wide, wide, bias)
    made.ops.append(Op("activation", "merge_activation", wide, wide))
    made.linear("merge_down", dim(hidden=out), wide, bias)
    return made


@builder
def wide_attention(hidden: int, width: int, heads: int, kv_heads: int, head_dim: int) -> Lowered:
    """Attention that reads another width than it writes: Zamba's, which reads the embedding as well."""
    made = Lowered()
    wide, query = dim(hidden=width), dim(heads=heads, head_dim=head_dim)
    key = dim(kv_heads=kv_heads, head_dim=head_dim)
    made.linear("query", query, wide)
    made.linear("key", key, wide)
    made.linear("value", key, wide)
    made.linear("output", dim(hidden=hidden), query)
    made.caches.append(attention_cache("full", key, key, None))
    made.ops.append(Op("attention", "attention", query, query))
    return made


@builder
def pooling_head(width: int, heads: int, ffn: int) -> Lowered:
    """SigLIP's pooling: one learned query attends to all patches, then an MLP."""
    made = Lowered()
    w, inner, f = dim(width=width), dim(tower_heads=heads, head_dim=width // heads), dim(tower_ffn=ffn)
    made.parameter("probe", ONE, ONE, w)
    made.linear("pool_qkv", inner + inner + inner, w, True)
    made.linear("pool_output", w, inner, True)
    made.ops.append(Op("attention", "pool_attention", inner, inner))
    made.norm("pool_norm", w, True)
    made.linear("pool_up", f, w, True)
    made.ops.append(Op("activation", "pool_activation", f, f))
    made.linear("pool_down", w, f, True)
    return made
