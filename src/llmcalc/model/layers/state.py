"""Recurrent layers: what they remember does not grow with the context."""

from __future__ import annotations

from llmcalc.model.inventory import Cache, Op, Tensor, dim
from llmcalc.model.layers.core import Lowered, builder


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
    out_bias: bool | None = None,
    conv_bias: bool = True,
    gate_norm: bool = True,
    state: str = "fp32",
) -> Lowered:
    """Mamba-2: a state of ``head_dim x state_size`` per head and a convolution over x, B and C.

    `bias` is that of both projections unless `out_bias` differs; `gate_norm` the norm after the scan.
    """
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
    if gate_norm:
        made.norm("ssm_norm", inner)
    made.linear("ssm_out", h, inner, bias if out_bias is None else out_bias)
    state_width = dim(state_heads=heads, head_dim=head_dim, state=state_size)
    made.caches.append(Cache("recurrent", (("state", state_width),), 1, state))
    made.caches.append(Cache("conv", (("columns", convolved),), kernel - 1, "model"))
    made.ops.append(Op("scan", "scan", state_width, inner))
    return made
