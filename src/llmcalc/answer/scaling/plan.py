"""One law's answer to a budget: the optimum or the price of being off it, inference, repeated data."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.scaling.asked import Asked
from llmcalc.compute.conventions import training_flops
from llmcalc.errors import InputError
from llmcalc.scaling import forms
from llmcalc.scaling.laws import Law, all_laws
from llmcalc.scaling.loss import inference_flops
from llmcalc.scaling.numeric import minimum, root
from llmcalc.scaling.rates import total_params
from llmcalc.scaling.terms import inference_balance, ratio_params, tokens_for_loss
from llmcalc.units import MAX_COUNT, MAX_FLOPS, MIN_FLOPS

SAME_LOSS = 0.005
"""How far a loss may lie from what parameters and tokens give, before they contradict. [-]"""


class Plan:
    """What one law says.

    Attributes
    ----------
    law : Law
        The law.
    compute, params, tokens : float
        Of the run: the optimum, or what was given. [FLOP], [params], [tokens]
    given : bool
        Whether parameters and tokens were both given, so that the run need not be optimal.
    loss : float or None
        At the end of training. [nats/token]
    loss_range, params_range, tokens_range, ratio_range : tuple or None
        80 % intervals of what was not given. [nats/token], [params], [tokens], [tokens/param]
    mixture : dict
        Experts, for laws that take them.
    total : float or None
        All parameters, where the law counts fewer. [params]
    off : dict or None
        Of a run that was given: the optimum of its compute, and what the difference costs.
    inference, repeated : dict or None
        The run of least cost with inference; what repeated tokens give.
    outside : list of str
        What lies outside the range fitted.
    """

    def __init__(self, law: Law, compute: float, params: float, tokens: float, given: bool) -> None:
        self.law, self.compute, self.params, self.tokens, self.given = law, compute, params, tokens, given
        self.mixture: dict[str, Any] = {}
        self.loss: float | None = None
        self.loss_range: tuple[float, float] | None = None
        self.params_range: tuple[float, float] | None = None
        self.tokens_range: tuple[float, float] | None = None
        self.ratio_range: tuple[float, float] | None = None
        self.total: float | None = None
        self.off: dict[str, Any] | None = None
        self.inference: dict[str, Any] | None = None
        self.repeated: dict[str, Any] | None = None
        self.outside: list[str] = []

    @property
    def ratio(self) -> float:
        """Tokens for each parameter. [tokens/param]"""
        return self.tokens / self.params

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "law": self.law.name,
            "convention": self.law.convention,
            "compute": self.compute,
            "params": self.params,
            "params_range": self.params_range,
            "total_params": self.total,
            "tokens": self.tokens,
            "tokens_range": self.tokens_range,
            "tokens_per_param": self.ratio,
            "tokens_per_param_range": self.ratio_range,
            "loss": self.loss,
            "loss_range": self.loss_range,
            "optimal": not self.given,
            "off_optimum": self.off,
            "inference": self.inference,
            "repeated": self.repeated,
            "outside_range": self.outside,
            "status": self.law.entry["status"],
        }


def plan(law: Law, asked: Asked) -> Plan:
    """What a law says of what was asked.

    Raises
    ------
    InputError
        If the law can't answer it, or loss and budget contradict under it.
    """
    law.speak("optimum")
    mixture = {"experts": asked.experts} if law.form == "joint-moe" else {}
    N = None if asked.counts is None else asked.counts.of(law)
    made = _run(law, asked, N, mixture)
    made.mixture = mixture
    for value, most, what in ((made.compute, MAX_FLOPS, "FLOP"), (made.tokens, MAX_COUNT, "tokens")):
        if value > most:
            raise InputError(
                f"{law.name}: that takes {value:.3g} {what}, above the largest that makes sense: {most:g}.",
                "Ask for fewer parameters or tokens, or a higher loss.",
            )
    if made.compute < MIN_FLOPS:
        raise InputError(
            f"{law.name}: that takes {made.compute:.3g} FLOP, below the smallest that makes sense: "
            f"{MIN_FLOPS:g}.",
            "Ask for more parameters or tokens, or a lower loss: 7b, 1t, 2.1.",
        )
    if "loss" in law.answers:
        made.loss = float(law.loss(made.params, made.tokens, **mixture))
        made.loss_range = law.loss_interval(made.params, made.tokens)
    if not made.given and asked.loss is None:
        _ranges(made, asked)
    made.outside = law.outside(
        compute=made.compute, params=made.params, tokens=made.tokens, experts=mixture.get("experts")
    )
    made.total = _total(law, asked, made.params)
    found = law.terms(**mixture)
    if made.given and asked.loss is not None and (asked.compute is not None or asked.tokens is not None):
        _same_loss(made, asked)
    if made.given:
        made.off = _price(law, made, found, mixture)
    if asked.inference is not None and found is not None:
        made.inference = inference_plan(found, made, asked.inference)
    if asked.unique is not None and law.form == "repeated":
        made.repeated = repeated_plan(law, made, asked.unique, asked.counts is None and asked.tokens is None)
        made.outside += law.outside(epochs=made.repeated["epochs"])
    return made


def _ranges(made: Plan, asked: Asked) -> None:
    """Intervals of what an optimum leaves open: of both at a compute, of one where the other is given."""
    law, N, D = made.law, made.params, made.tokens
    if asked.counts is not None:
        made.params, made.tokens_range = asked.counts.of(law), law.tokens_interval(N)
        if made.tokens_range is not None:
            made.ratio_range = made.tokens_range[0] / N, made.tokens_range[1] / N
        return
    if asked.tokens is not None:
        made.tokens, own = asked.tokens, law.tokens_interval(N)
        if own is not None:  # on the line of optima a span of tokens is one of parameters
            slope = law.terms().beta / law.terms().alpha
            made.params_range = N * (D / own[1]) ** slope, N * (D / own[0]) ** slope
            made.ratio_range = D / made.params_range[1], D / made.params_range[0]
        return
    made.params_range = law.params_interval(made.compute)
    if made.params_range is not None:
        low, high = made.params_range
        made.tokens_range = D * N / high, D * N / low
        made.ratio_range = made.ratio * (N / high) ** 2, made.ratio * (N / low) ** 2


def _run(law: Law, asked: Asked, N: float | None, mixture: dict[str, Any]) -> Plan:
    """Compute, parameters and tokens: two of them given, one of them, or a loss."""
    C, D, L = asked.compute, asked.tokens, asked.loss
    found = law.terms(**mixture)
    if L is not None:
        law.speak("loss")
        reachable(law, found, L)
    if N is not None and D is not None:
        return Plan(law, training_flops(N, D), N, D, True)
    if C is not None and N is not None:
        return Plan(law, C, N, C / (6.0 * N), True)
    if C is not None and D is not None:
        return Plan(law, C, C / (6.0 * D), D, True)
    if L is not None and (N is not None or D is not None):
        N, D = _at_loss(law, found, L, N, D)
        return Plan(law, training_flops(N, D), N, D, True)
    if L is not None and C is not None:
        best = float(law.loss(*law.optimum(C, **mixture), **mixture))
        if abs(L / best - 1) > SAME_LOSS / 5:
            way = "does not reach" if best > L else "does better than"
            raise InputError(
                f"Compute and loss contradict: by {law.name} {C:.4g} FLOP well spent {way} a loss of {L:g}; "
                f"it gives {best:.4f}.",
                f"Give one of the two; {L:g} takes {law.compute(loss=L, **mixture):.4g} FLOP.",
            )
    if C is None:
        C = law.compute(params=N, tokens=D, loss=L, **mixture)
    best_N, best_D = law.optimum(C, **mixture)
    return Plan(law, C, float(best_N), float(best_D), False)


def reachable(law: Law, t: Any, L: float) -> None:
    """Refuse a loss that is not above a law's irreducible one."""
    assert t is not None
    if t.E >= L:
        raise InputError(
            f"A loss of {L:g} is not above {law.name}'s irreducible loss of {t.E:.6g} nats per token: no "
            "budget reaches it.",
            f"Give a loss above {t.E:.6g}.",
        )


def _at_loss(law: Law, t: Any, L: float, N: float | None, D: float | None) -> tuple[float, float]:
    """The number of tokens (or parameters) that reaches a loss with the other one given."""
    left = (L - t.E) ** (1 / t.gamma)
    A, alpha, x, what, other = (
        (t.A, t.alpha, N, "parameters", "tokens")
        if N is not None
        else (t.B, t.beta, D, "tokens", "parameters")
    )
    assert x is not None
    least = (A / left) ** (1 / alpha)
    if x <= least * (1 + 1e-9):
        raise InputError(
            f"By {law.name} {x:.4g} {what} don't reach a loss of {L:g} however many {other} there are.",
            f"Give more than {least:.4g} {what}, or a higher loss.",
        )
    if N is not None:
        return N, float(tokens_for_loss(N, left, t.A, t.B, t.alpha, t.beta))
    return float(tokens_for_loss(D, left, t.B, t.A, t.beta, t.alpha)), float(x)


def _same_loss(made: Plan, asked: Asked) -> None:
    """Refuse a loss that parameters and tokens don't give."""
    assert made.loss is not None
    assert asked.loss is not None
    if abs(asked.loss / made.loss - 1) > SAME_LOSS:
        raise InputError(
            f"The loss contradicts parameters and tokens: by {made.law.name} {made.params:.4g} parameters on "
            f"{made.tokens:.4g} tokens reach {made.loss:.4f}, not {asked.loss:g}.",
            "Leave --loss out, or give it with one of --params and --tokens.",
        )


def _price(law: Law, made: Plan, t: Any, mixture: dict[str, Any]) -> dict[str, Any]:
    """What a run that was given lacks to the optimum of its compute."""
    N, D = map(float, law.optimum(made.compute, **mixture))
    found: dict[str, Any] = {
        "params": N, "tokens": D, "tokens_per_param": D / N, "params_ratio": made.params / N,
        "tokens_ratio": made.tokens / D,
    }  # fmt: skip
    if t is not None and made.loss is not None:
        best = float(law.loss(N, D, **mixture))
        enough = law.compute(loss=made.loss, **mixture)
        found |= {
            "loss": best, "excess_loss": made.loss - best, "compute_for_same_loss": enough,
            "wasted_share": 1 - enough / made.compute,
        }  # fmt: skip
    return found


def _total(law: Law, asked: Asked, N: float) -> float | None:
    """All parameters, where a law counts fewer: of a mixture, or without embeddings."""
    if asked.active_ratio is not None and asked.active_ratio < 1:
        return N / asked.active_ratio
    if law.convention in ("non-embedding", "flops-per-token") and law.form != "vocabulary":
        if asked.counts is not None and asked.counts.name:
            return asked.counts.by["all"]
        conversion = next(iter(all_laws(asked.book, "conversion")), None)
        if conversion is not None and conversion.form == "total-params":
            return float(total_params(N, conversion.coefficients["gamma"]))
    return None


def rule_of_20(compute: float, law: Law, mixture: dict[str, Any]) -> dict[str, Any]:
    """Twenty tokens for each parameter, and their loss under a law."""
    N = float(ratio_params(compute, 20))
    found: dict[str, Any] = {"params": N, "tokens": 20 * N}
    if "loss" in law.answers:
        found["loss"] = float(law.loss(N, 20 * N, **mixture))
    return found


def inference_plan(t: Any, made: Plan, served: float) -> dict[str, Any]:
    """Parameters and tokens of the same loss with least compute of training and inference together.

    Parameters
    ----------
    t : Terms
        The law.
    made : Plan
        The run whose loss is kept.
    served : float
        Tokens of inference over the model's life. [tokens]

    Returns
    -------
    dict
        The run, its compute, and how they compare with the run of the same loss and least training compute.
    """
    assert made.loss is not None
    left = (made.loss - t.E) ** (1 / t.gamma)
    C = forms.compute_of_terms(t, made.loss)
    best_N, best_D = map(float, forms.optimum_of_terms(t, C))
    least = (t.A / left) ** (1 / t.alpha)

    def balance(N: float) -> float:
        D = tokens_for_loss(N, left, t.A, t.B, t.alpha, t.beta)
        return float(inference_balance(N, D, t.A, t.B, t.alpha, t.beta) / (1 + served / (3 * D)) - 1)

    N = root(balance, least * (1 + 1e-9), best_N)
    D = float(tokens_for_loss(N, left, t.A, t.B, t.alpha, t.beta))
    train, serve = float(training_flops(N, D)), float(inference_flops(N, served))
    before = float(training_flops(best_N, best_D) + inference_flops(best_N, served))
    return {
        "inference_tokens": served, "params": N, "tokens": D, "tokens_per_param": D / N,
        "training_flops": train, "inference_flops": serve, "total_flops": train + serve,
        "params_ratio": N / best_N, "tokens_ratio": D / best_D, "loss": made.loss,
        "saving": 1 - (train + serve) / before,
    }  # fmt: skip


def repeated_plan(law: Law, made: Plan, unique: float, free: bool = True) -> dict[str, Any]:
    """The run of a budget when tokens must be repeated.

    Parameters
    ----------
    law : Law
        Of repeated data.
    made : Plan
        The run with fresh tokens throughout.
    unique : float
        Tokens there are. [tokens]
    free : bool
        Whether parameters and tokens may still move, at the same compute.

    Returns
    -------
    dict
        The run, its epochs, what its tokens are worth, its loss beside that of fresh tokens, and the budget
        at which tokens run out.
    """
    N = made.params
    if free and not made.given and made.tokens > unique:
        N = minimum(
            lambda x: float(law.repeated(x, made.compute / (6.0 * x), unique)["loss"]),
            made.params / 1e4, made.params * 1e3,
        )  # fmt: skip
    D = made.tokens if made.given else made.compute / (6.0 * N)
    found = law.repeated(N, D, unique)
    fresh = float(law.loss(N, D)) if made.given else made.loss
    assert fresh is not None
    return {
        "unique_tokens": unique, "params": N, "tokens": D, **found, "loss_of_fresh_tokens": fresh,
        "excess_loss": found["loss"] - fresh, "runs_out_at_compute": law.compute(tokens=unique),
        "worth_at_most": unique * (1 + law.coefficients["R_D"]),
    }  # fmt: skip
