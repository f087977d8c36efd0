"""Mixtures of experts: losses by active parameters, tokens and experts, as formulas."""

from __future__ import annotations

from llmcalc.formula import Quantity, formula, log


@formula
def effective_experts(E: Quantity, E_start: Quantity, E_max: Quantity) -> Quantity:
    """Experts after saturation at both ends.

    Parameters
    ----------
    E : number or ndarray
        Experts of a layer, 1 for a dense model. [experts]
    E_start, E_max : float
        Where more experts begin to count, and what they are worth at most. [experts]

    Returns
    -------
    float or ndarray
        Ehat: E_start at E = 1, E_max for ever more. [experts]

    Notes
    -----
    Laws differ in both constants.

    Examples
    --------
    >>> round(effective_experts(1, 2.0732, 290.4521), 4)
    2.0732

    References
    ----------
    .. [1] A. Clark et al., "Unified Scaling Laws for Routed Language Models", 2022, eq. 1, Table 3.
    """
    return 1 / (1 / (E - 1 + 1 / (1 / E_start - 1 / E_max)) + 1 / E_max)


@formula
def expert_coefficient(coefficient: Quantity, Ehat: Quantity, power: Quantity) -> Quantity:
    """A term's coefficient at a number of experts.

    Parameters
    ----------
    coefficient : float
        Of the law. [nats/token params^alpha]
    Ehat : number or ndarray
        `effective_experts`. [experts]
    power : float
        How it grows with them. [-]

    Returns
    -------
    float or ndarray
        A or B of `chinchilla_loss`. [nats/token params^alpha]

    Notes
    -----
    At most 32 experts were fitted.

    Examples
    --------
    The paper prints 30.36 for a dense model:

    >>> round(expert_coefficient(35.91, 2.0732, -0.2285), 1)
    30.4

    References
    ----------
    .. [1] J. Ludziejewski et al., "Joint MoE Scaling Laws", 2025, eq. 4, Table 4.
    """
    return coefficient * Ehat**power


@formula
def expert_exponent(exponent: Quantity, slope: Quantity, Ehat: Quantity) -> Quantity:
    """A term's exponent at a number of experts, as a positive number.

    Parameters
    ----------
    exponent, slope : float
        Of the law, the first below 0. [-]
    Ehat : number or ndarray
        `effective_experts`. [experts]

    Returns
    -------
    float or ndarray
        alpha or beta of `chinchilla_loss`. [-]

    Notes
    -----
    At most 32 experts were fitted.

    Examples
    --------
    The paper prints 0.1817 for a dense model:

    >>> round(expert_exponent(-0.1889, 0.0098, 2.0732), 4)
    0.1818

    References
    ----------
    .. [1] J. Ludziejewski et al., "Joint MoE Scaling Laws", 2025, eq. 4, Table 4.
    """
    return -(exponent + slope * log(Ehat))


@formula
def experts_of_ratio(active_ratio: Quantity, feedforward: Quantity) -> Quantity:
    """Experts of equal size, one active, that leave a share of all parameters active.

    Parameters
    ----------
    active_ratio : number or ndarray
        Active over total parameters, 0 to 1. [-]
    feedforward : float
        Share of the active parameters that is the expert: 2/3 without embeddings. [-]

    Returns
    -------
    float or ndarray
        E; 1 for a dense model. [experts]

    Notes
    -----
    N_total = N_active (1 + feedforward (E - 1)). Attention of four matrices of the width squared and a
    feed-forward part of eight make the share 2/3; embeddings lower it.

    Examples
    --------
    >>> round(experts_of_ratio(0.5, 2 / 3), 2)
    2.5

    References
    ----------
    .. [1] J. Ludziejewski et al., "Joint MoE Scaling Laws", 2025, section 2: one active expert of full size.
    """
    return 1 + (1 / active_ratio - 1) / feedforward


@formula
def routed_loss(N: Quantity, Ehat: Quantity, a: Quantity, b: Quantity, c: Quantity,
                d: Quantity) -> Quantity:  # fmt: skip
    """Loss of a routed model at a fixed number of tokens.

    Parameters
    ----------
    N : number or ndarray
        Active parameters. [params]
    Ehat : number or ndarray
        `effective_experts`. [experts]
    a, b, c, d : float
        Constants, for logarithms to the base of 10. [-]

    Returns
    -------
    float or ndarray
        Loss after 130 B tokens. [nats/token]

    Notes
    -----
    15 M to 1.3 B parameters, up to 512 experts.

    Examples
    --------
    More experts lower the loss of a model of 1 B:

    >>> law = dict(a=-0.082, b=-0.108, c=0.009, d=1.104)
    >>> routed_loss(1e9, 64, **law) < routed_loss(1e9, 2, **law)
    True

    References
    ----------
    .. [1] A. Clark et al., "Unified Scaling Laws for Routed Language Models", 2022, eq. 1, Table 3.
    """
    return 10 ** (
        a * log(N) / 2.302585092994046
        + b * log(Ehat) / 2.302585092994046
        + c * log(N) * log(Ehat) / 5.301898110478399
        + d
    )


@formula
def fine_grained_coefficient(a: Quantity, g: Quantity, G: Quantity, gamma: Quantity, X: Quantity,
                             alpha: Quantity) -> Quantity:  # fmt: skip
    """Coefficient of the size term at a granularity, over active parameters.

    Parameters
    ----------
    a, g : float
        Constants. [nats/token params^alpha]
    G : number or ndarray
        Granularity: how many small experts replace one of full size. [-]
    gamma : float
        Exponent. [-]
    X : number or ndarray
        Expansion rate: all parameters over active ones. [-]
    alpha : float
        Exponent of all parameters. [-]

    Returns
    -------
    float or ndarray
        A of `chinchilla_loss`. [nats/token params^alpha]

    Notes
    -----
    The law is of all parameters, X N. Only X = 64 and granularity 1 to 16 were fitted.

    Examples
    --------
    Table 2 has a loss of 2.245 for 64 x 3 B parameters on 72.9 B tokens at granularity 16; its rounded
    coefficients give 2.18:

    >>> A = fine_grained_coefficient(18.1, 2.1, 16, 0.58, 64, 0.115)
    >>> round(0.47 + A / 3e9**0.115 + 30.8 / 72.9e9**0.147, 2)
    2.18

    References
    ----------
    .. [1] J. Krajewski et al., "Scaling Laws for Fine-Grained Mixture of Experts", 2024, eq. 9,
       Tables 1 and 2.
    """
    return (g / G**gamma + a) / X**alpha


@formula
def sparse_moe_loss(N: Quantity, D: Quantity, S: Quantity, a: Quantity, alpha: Quantity, b: Quantity,
                    beta: Quantity, c: Quantity, lam: Quantity, d: Quantity, delta: Quantity, gamma: Quantity,
                    e: Quantity) -> Quantity:  # fmt: skip
    """Loss of a mixture by all its parameters, tokens and sparsity.

    Parameters
    ----------
    N, D : number or ndarray
        All parameters, and training tokens. [params], [tokens]
    S : number or ndarray
        Share of experts that rest, below 1. [-]
    a, b, c, d, e : float
        Coefficients. [nats/token params^alpha], and so on
    alpha, beta, lam, delta, gamma : float
        Exponents. [-]

    Returns
    -------
    float or ndarray
        Loss. [nats/token]

    Notes
    -----
    Poor at the sparsity that its authors kept back: 68 % of the variance.

    Examples
    --------
    >>> sparse_moe_loss(1.0, 1.0, 0.0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
    5.0

    References
    ----------
    .. [1] S. Abnar et al., "Parameters vs FLOPs", 2025, eq. 6, Table 3.
    """
    return a / N**alpha + b / D**beta + c / (1 - S) ** lam + d / ((1 - S) ** delta * N**gamma) + e
