"""A decoder layer: which norms stand where, attention or a recurrence, feed-forward or experts."""

from __future__ import annotations

from llmcalc.memory.training import ops, recipes
from llmcalc.memory.training.adapters import dropout
from llmcalc.memory.training.attention import attend
from llmcalc.memory.training.context import FFN, Run
from llmcalc.memory.training.tape import Value

BEFORE_ATTENTION = ("attn_norm", "mixer_norm", "first_norm", "ln_attn")
BEFORE_FFN = ("ffn_norm", "before_norm", "ln_mlp")
RESIDUAL = "hidden states"
RESIDUALS = ("hidden_dropout", "resid_dropout", "resid_pdrop", "residual_dropout")
"""Keys of the dropout on what a layer adds to the residual."""


def decoder_layer(run: Run, x: Value) -> Value:
    """One layer, from residual stream to residual stream."""
    try:
        return _layer(run, x)
    finally:
        run.lingering.clear()


def _layer(run: Run, x: Value) -> Value:
    t = run.tape
    t.label = RESIDUAL
    first = _role(run, BEFORE_ATTENTION)
    second = _role(run, BEFORE_FFN)
    has_ffn = any(role in run.ops for role in ("down", "expert_down"))
    mixes = "attention" in run.ops or "scan" in run.ops or "conv" in run.ops or "short_conv" in run.ops
    shares = not second or second == "ln_mlp" or run.traits.side_by_side
    if first and has_ffn and mixes and shares and "post_attn_norm" not in run.ops:
        return _parallel(run, x, first, second)
    if mixes:
        x = _sub_layer(run, x, first, mix, "post_attn_norm")
    if has_ffn:
        x = _sub_layer(run, x, second, feed_forward, "post_ffn_norm")
    return x


def _role(run: Run, roles: tuple[str, ...]) -> str:
    return next((role for role in roles if role in run.ops), "")


def _sub_layer(run: Run, x: Value, before: str, module: object, after: str) -> Value:
    """``x + after(module(before(x)))``."""
    t = run.tape
    wide = x.element > run.plan.weight_element and run.traits.wide_residual
    inner = run.norm(ops.cast(t, x, run.plan.weight_element) if wide else x, before) if before else x
    if before and "layernorm" in run.plan.modules:
        inner.storage.remade = True
    if run.traits.wide_residual:
        x = ops.cast(t, x, 4)
    inner = module(run, inner)  # type: ignore[operator]
    if after in run.ops:
        inner = run.norm(inner, after)
    if run.traits.scaled_branches:
        inner = ops.scale(t, inner)
    if run.traits.drops(*RESIDUALS):
        inner = dropout(t, inner)
    return ops.add(t, x, inner)


def _parallel(run: Run, x: Value, first: str, second: str) -> Value:
    """Attention and feed-forward both read the layer's input."""
    t = run.tape
    normed = run.norm(x, first)
    if second:
        mixed = mix(run, normed)
        out = feed_forward(run, run.norm(x, second))
    else:
        mixed = mix(run, normed)
        out = feed_forward(run, normed)
    if run.traits.drops(*RESIDUALS):
        mixed, out = dropout(t, mixed), dropout(t, out)
    return ops.add(t, ops.add(t, out, mixed), x)


def mix(run: Run, x: Value) -> Value:
    """Attention, a recurrence, or both side by side."""
    made: list[Value] = []
    t, scaled = run.tape, run.traits.scaled_mixers
    if "scan" in run.ops or "short_conv" in run.ops:
        from llmcalc.memory.training import states  # few models have any

        out = states.scan(run, x)
        made.append(ops.scale(t, out) if scaled else out)
        del out
    if "attention" in run.ops:
        out = attend(run, ops.scale(t, x) if scaled else x)
        made.append(ops.scale(t, out) if scaled else out)
        del out
    del x
    if len(made) == 2:
        return ops.add(run.tape, made.pop(0), made.pop(0))
    return made.pop()


def feed_forward(run: Run, x: Value) -> Value:
    """Dense, experts, or experts and a shared one."""
    t = run.tape
    label, t.label = t.label, FFN
    part = "moe" if "expert_down" in run.ops else "mlp"
    if part in run.plan.modules:
        out = t.checkpoint(lambda x: _feed_forward(run, x), x)
    else:
        out = _feed_forward(run, x)
    t.label = label
    return out


def _feed_forward(run: Run, x: Value) -> Value:
    t = run.tape
    if "expert_down" not in run.ops:
        out = dense(run, x, "")
    else:
        from llmcalc.memory.training import experts  # few models have any

        early = _shared(run, x) if run.recipe.regathers and "shared_down" in run.ops else None
        out = experts.routed(run, x)
        if "shared_down" in run.ops:
            shared = _shared(run, x) if early is None else early
            del early
            if "shared_router" in run.ops:
                gate = ops.saving_output(t, run.linear(x, "shared_router"))
                shared = ops.mul(t, gate, shared)
                del gate
            out = ops.add(t, out, shared)
        if "down" in run.ops:
            out = ops.add(t, out, dense(run, x, ""))
    return out


def _shared(run: Run, x: Value) -> Value:
    """Experts that every token has."""
    if "shared_experts" in run.plan.modules:
        return run.tape.checkpoint(lambda x: dense(run, x, "shared_"), x)
    return dense(run, x, "shared_")


def dense(run: Run, x: Value, prefix: str) -> Value:
    """``down(act(gate(x)) * up(x))``."""
    t = run.tape
    x = run.enter(x)
    if f"{prefix}gate_up" in run.ops:
        both = run.linear(x, f"{prefix}gate_up")
        half = both.numel // 2
        gate, up = ops.split(t, both, [half, half])
        del both
        if run.recipe.gate == "open":
            wide = ops.mul(t, up, run.activation(gate))
        else:
            wide = recipes.gated(t, gate, up, over=False)
        del gate, up
    elif run.recipe.regathers and f"{prefix}gate" in run.ops and run.plain((f"{prefix}gate", f"{prefix}up")):
        gate, up = run.joint_regathered(x, (f"{prefix}gate", f"{prefix}up"))
        wide = recipes.gated(t, gate, up, over=False)
        del gate, up
    elif f"{prefix}gate" in run.ops:
        gate = run.linear(x, f"{prefix}gate")
        if run.traits.scaled_mixers:
            gate = ops.scale(t, gate)
        if run.recipe.gate == "open":
            gate = run.activation(gate)
            wide = ops.mul(t, gate, run.linear(x, f"{prefix}up"))
        else:
            wide = recipes.gated(t, gate, run.linear(x, f"{prefix}up"), run.recipe.gate == "in-place")
        del gate
    else:
        wide = run.activation(run.linear(x, f"{prefix}up"))
    del x
    out = run.linear(wide, f"{prefix}down")
    return ops.scale(t, out) if run.traits.scaled_mixers else out
