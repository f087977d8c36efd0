"""Feed-forward layers: plain, gated, and routed experts."""

from __future__ import annotations

from llmcalc.errors import ConfigError
from llmcalc.model.inventory import Op, dim
from llmcalc.model.layers.core import Lowered, builder


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
    correction_tag: str = "buffer",
    zero_experts: int = 0,
    fused: bool = False,
    upright: bool = False,
    shared_ffn: int = 0,
    shared_gate: bool = False,
    latent: int = 0,
    latent_norm: bool = False,
) -> Lowered:
    """Routed experts, all stored and `top_k` active per token, with or without a shared one.

    `correction` is the router's load-balancing bias: a buffer in transformers, a tensor in the
    checkpoint; of some classes a parameter, so its tag is ``main``. `zero_experts` more can be chosen
    that pass their input through and store nothing. `fused` stores gate and up of all experts as one
    tensor, input first unless `upright`. With `latent` the routed experts run at that width, between
    two matrices of their own; `latent_norm` is a norm before the second.
    """
    if top_k > experts + zero_experts:
        raise ConfigError(
            f"num_experts_per_tok {top_k} is more than the {experts} experts there are.",
            "Correct one of the two.",
        )
    made = Lowered()
    h, f, e = dim(hidden=hidden), dim(ffn=ffn), dim(expert=experts + zero_experts)
    top_k = max(1, top_k * experts // (experts + zero_experts))  # of those that store something, on average
    made.linear("router", e, h, router_bias)
    if correction:
        made.parameter("router_correction", e, tag=correction_tag, dtype="fp32")
    inner = dim(hidden=latent) if latent else h
    if latent:
        made.linear("latent_down", inner, h)
    if gated and fused:
        made.linear("expert_gate_up", f + f, inner, bias, not upright, top_k, experts, True)
    else:
        if gated:
            made.linear("expert_gate", f, inner, bias, False, top_k, experts, True)
        made.linear("expert_up", f, inner, bias, False, top_k, experts, True)
    made.ops.append(Op("activation", "expert_activation", f, f + f if gated else f, top_k, experts))
    made.linear("expert_down", inner, f, bias, fused and not upright, top_k, experts, True)
    if latent_norm:
        made.norm("latent_norm", inner)
    if latent:
        made.linear("latent_up", h, inner)
    if shared_ffn:
        _feed_forward(made, "shared_", hidden, shared_ffn, gated, False)
    if shared_gate:
        made.linear("shared_router", dim(one=1), h)
    return made
