"""What each form of the catalog computes: losses, and splits of a budget."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

from llmcalc.formula import Quantity, exp, log
from llmcalc.scaling import experts as moe
from llmcalc.scaling import loss as base
from llmcalc.scaling import optimum as best
from llmcalc.scaling import rates, terms

PF_DAY = 8.64e19
"""FLOPs of a day at 10^15 a second. [FLOP]"""

ONLY = {"power-n": "parameters", "power-d": "tokens", "power-c": "compute", "frontier": "compute"}
"""Losses by one quantity alone."""

Terms = namedtuple("Terms", "E A B alpha beta gamma")
"""A loss of Chinchilla's form; gamma is the exponent over both terms, 1 in most."""

Coefficients = Mapping[str, float]


def chinchilla_terms(form: str, c: Coefficients, experts: float = 1, granularity: float = 1) -> Any:
    """The law as a loss of Chinchilla's form; None where it has another.

    Parameters
    ----------
    form : str
        Form of the law.
    c : mapping
        Its coefficients.
    experts, granularity : float
        For mixtures: experts of a layer, and small experts for one of full size. [-]

    Returns
    -------
    Terms or None
        E, A, B, alpha, beta, gamma.
    """
    if form in ("chinchilla", "repeated", "precision"):
        return Terms(c["E"], c["A"], c["B"], c["alpha"], c["beta"], 1.0)
    if form == "supervised":
        return Terms(c["E"], c["A"], c["B"], c["alpha"], c["beta"], c["gamma"])
    if form == "fine-grained":
        X = c.get("X", 1.0)
        A = moe.fine_grained_coefficient(c["a"], c["g"], granularity, c["gamma"], X, c["alpha"])
        return Terms(c["c"], A, c["b"], c["alpha"], c["beta"], 1.0)
    if form == "joint-moe":
        hat = moe.effective_experts(experts, c["E_start"], c["E_max"])
        return Terms(
            c["c"],
            moe.expert_coefficient(c["a"], hat, c["delta"]),
            moe.expert_coefficient(c["b"], hat, c["omega"]),
            moe.expert_exponent(c["alpha"], c["gamma"], hat),
            moe.expert_exponent(c["beta"], c["zeta"], hat),
            1.0,
        )
    return None


def loss_of_terms(t: Any, N: Quantity, D: Quantity) -> Quantity:
    """Loss of Chinchilla's form. [nats/token]"""
    if t.gamma == 1:
        return base.chinchilla_loss(N, D, t.E, t.A, t.B, t.alpha, t.beta)
    return base.supervised_loss(N, D, t.E, t.A, t.B, t.alpha, t.beta, t.gamma)


def optimum_of_terms(t: Any, C: Quantity) -> tuple[Quantity, Quantity]:
    """Parameters and tokens of least loss. [params], [tokens]"""
    G = best.optimum_ratio(t.A, t.B, t.alpha, t.beta)
    return best.optimal_params(C, G, t.alpha, t.beta), best.optimal_tokens(C, G, t.alpha, t.beta)


def compute_of_terms(t: Any, L: Quantity) -> Quantity:
    """Least compute that reaches a loss. [FLOP]"""
    G = best.optimum_ratio(t.A, t.B, t.alpha, t.beta)
    return best.compute_for_loss((L - t.E) ** (1 / t.gamma), t.A, t.B, t.alpha, t.beta, G)


def other_loss(form: str, c: Coefficients, N: Any, D: Any, C: Any, given: Mapping[str, Any]) -> Any:
    """Loss of a form that is not Chinchilla's. [nats/token]"""
    if form == "power-n":
        return terms.power_loss(N, c["N_c"], c["alpha_N"])
    if form == "power-d":
        return terms.power_loss(D, c["D_c"], c["alpha_D"])
    if form == "power-c":
        return terms.power_loss(C / PF_DAY, c["C_c"], c["alpha_C"])
    if form == "frontier":
        return terms.frontier_loss(C, c["C_0"], c["p"], c["E"])
    if form == "kaplan-joint":
        return terms.kaplan_loss(N, D, c["N_c"], c["D_c"], c["alpha_N"], c["alpha_D"])
    if form == "routed":
        if "N_c" in c:  # its dense variant
            return terms.power_loss(N, c["N_c"], c["alpha_N"])
        hat = moe.effective_experts(given.get("experts") or 1, c["E_start"], c["E_max"])
        return moe.routed_loss(N, hat, c["a"], c["b"], c["c"], c["d"])
    if form == "sparse-moe":
        own = {"lam" if key == "lambda" else key: value for key, value in c.items()}
        return moe.sparse_moe_loss(N, D, given.get("sparsity") or 0.0, **own)
    return None


def split(form: str, c: Coefficients, C: Any) -> tuple[Any, Any] | None:
    """Parameters and tokens of a budget for forms that give them without a loss; None for others."""
    maker = SPLITS.get(form)
    return None if maker is None else maker(c, C)


def _power(c: Coefficients, C: Any) -> tuple[Any, Any]:
    N = terms.power_law(C, c["k_N"], c["a"])
    return N, C / (6.0 * N)


def _tokens(c: Coefficients, C: Any) -> tuple[Any, Any]:
    D = terms.power_law(C, c["k_D"], c["b"])
    return C / (6.0 * D), D


def _ratio(c: Coefficients, C: Any) -> tuple[Any, Any]:
    N = terms.ratio_params(C, c["ratio"])
    return N, N * c["ratio"]


def _pf_days(c: Coefficients, C: Any) -> tuple[Any, Any]:
    days = C / PF_DAY
    return terms.power_law(days, c["N_e"], c["p_N"]), terms.power_law(days, c["D_e"], c["p_D"])


def _per_token(c: Coefficients, C: Any) -> tuple[Any, Any]:
    return terms.power_law(C, c["k_M"], c["p_M"]) / 6.0, terms.power_law(C, c["k_D"], c["p_D"])


def _logs(c: Coefficients, C: Any) -> tuple[Any, Any]:
    return exp(c["n_0"] + c["n_1"] * log(C)), exp(c["d_0"] + c["d_1"] * log(C))


def _vocabulary(c: Coefficients, C: Any) -> tuple[Any, Any]:
    N = exp(c["n_0"] + c["n_1"] * log(C))
    N_v = exp(c["v_0"] + c["v_1"] * log(C))
    return N, C / (6.0 * (N + N_v))


SPLITS: dict[str, Callable[[Coefficients, Any], tuple[Any, Any]]] = {
    "power-allocation": _power,
    "token-allocation": _tokens,
    "ratio": _ratio,
    "pf-day-allocation": _pf_days,
    "flops-per-token": _per_token,
    "log-allocation": _logs,
    "vocabulary": _vocabulary,
}

WIDTHS = (
    (5e7, 512), (2e8, 768), (5e8, 1024), (1e9, 1536), (2e9, 2048), (5e9, 3200), (1e10, 4096), (2e10, 5120),
    (5e10, 6048), (1e11, 8192), (2e11, 12288), (5e11, 16384), (1e12, 20480), (float("inf"), 24576),
)  # fmt: skip
"""Non-vocabulary parameters up to which Tao et al. take a width. [params], [elements]"""


def vocabulary_sizes(c: Coefficients, N: float, C: float | None = None) -> list[float]:
    """Vocabulary of least loss by the three approaches of Tao et al.

    Parameters
    ----------
    c : mapping
        Coefficients.
    N : float
        Parameters without the vocabulary's. [params]
    C : float, optional
        Training compute, of the third approach alone; that for which N is optimal if left out. [FLOP]

    Returns
    -------
    list of float
        Words of the vocabulary. [tokens]
    """
    from llmcalc.scaling.numeric import root

    width = next(width for most, width in WIDTHS if most >= N)
    best = exp((log(N) - c["n_0"]) / c["n_1"])
    budget = best if C is None else C

    def slope(N_v: float) -> float:
        """Derivative of the loss by vocabulary parameters, in millions."""
        words = -c["a_2"] * c["A_2"] / N_v ** (c["a_2"] + 1)
        data = c["beta"] * c["B"] * (6e15 / budget) ** c["beta"] * (N / 1e6 + N_v) ** (c["beta"] - 1)
        return float(words + data)

    first = exp(c["v_0"] + c["v_1"] * log(best))
    second = terms.power_law(N / c["N_0"], c["V_0"], c["p"])
    third = root(slope, 1e-3, 1e9) * 1e6
    return [first / width, second / width, third / width]


def characters_to_tokens(c: Coefficients, V: Quantity) -> Quantity:
    """Tokens of a character by Tao et al., the vocabulary capped as in their fit. [tokens/character]"""
    from llmcalc.formula import smaller

    return rates.tokens_per_character(smaller(V, 200_000), c["c_2"], c["c_1"], c["c_0"])
