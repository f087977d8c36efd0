"""The optimum between parameters and tokens of a loss of Chinchilla's form, as formulas."""

from __future__ import annotations

from llmcalc.formula import Quantity, formula


@formula
def optimum_ratio(A: Quantity, B: Quantity, alpha: Quantity, beta: Quantity) -> Quantity:
    """The constant G of the compute-optimal split.

    Parameters
    ----------
    A, B, alpha, beta : float
        Of `chinchilla_loss`. [nats/token params^alpha], [nats/token tokens^beta], [-], [-]

    Returns
    -------
    float
        G, with N = G (C/6)^a and D = (C/6)^(1-a) / G. [-]

    Notes
    -----
    Both exponents above 0.

    Examples
    --------
    >>> round(optimum_ratio(406.4010175, 410.7228269, 0.33917084, 0.2849083), 3)
    1.3

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, eq. 4.
    """
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta))


@formula
def optimal_params(C: Quantity, G: Quantity, alpha: Quantity, beta: Quantity) -> Quantity:
    """Parameters that reach the lowest loss with a training budget.

    Parameters
    ----------
    C : number or ndarray
        Training compute. [FLOP]
    G : float
        `optimum_ratio`. [-]
    alpha, beta : float
        Of `chinchilla_loss`. [-]

    Returns
    -------
    float or ndarray
        N. [params]

    Notes
    -----
    With C = 6 N D.

    Examples
    --------
    The Gopher budget under approach 3 of Hoffmann et al., who state 40 B:

    >>> round(optimal_params(5.76e23, 1.3000464, 0.33917084, 0.2849083) / 1e9, 1)
    40.4

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, eq. 4.
    """
    return G * (C / 6.0) ** (beta / (alpha + beta))


@formula
def optimal_tokens(C: Quantity, G: Quantity, alpha: Quantity, beta: Quantity) -> Quantity:
    """Tokens that reach the lowest loss with a training budget.

    Parameters
    ----------
    C : number or ndarray
        Training compute. [FLOP]
    G : float
        `optimum_ratio`. [-]
    alpha, beta : float
        Of `chinchilla_loss`. [-]

    Returns
    -------
    float or ndarray
        D. [tokens]

    Notes
    -----
    With C = 6 N D.

    Examples
    --------
    >>> round(optimal_tokens(5.76e23, 1.3000464, 0.33917084, 0.2849083) / 1e12, 2)
    2.38

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, eq. 4.
    """
    return (C / 6.0) ** (alpha / (alpha + beta)) / G


@formula
def balanced_tokens(N: Quantity, A: Quantity, B: Quantity, alpha: Quantity, beta: Quantity) -> Quantity:
    """Tokens for which a model of N parameters is compute-optimal.

    Parameters
    ----------
    N : number or ndarray
        Parameters. [params]
    A, B, alpha, beta : float
        Of `chinchilla_loss`. [nats/token params^alpha], [nats/token tokens^beta], [-], [-]

    Returns
    -------
    float or ndarray
        D. [tokens]

    Notes
    -----
    Where one more FLOP lowers both terms alike.

    Examples
    --------
    Muennighoff's law ties the exponents, so the ratio is the same at every size:

    >>> round(balanced_tokens(1e9, 520.8249517, 1487.716094, 0.3526596, 0.3526596) / 1e9, 2)
    19.61

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, eq. 4.
    """
    return (beta * B / (alpha * A) * N**alpha) ** (1 / beta)


@formula
def balanced_params(D: Quantity, A: Quantity, B: Quantity, alpha: Quantity, beta: Quantity) -> Quantity:
    """Parameters for which D tokens are compute-optimal.

    Parameters
    ----------
    D : number or ndarray
        Training tokens. [tokens]
    A, B, alpha, beta : float
        Of `chinchilla_loss`. [nats/token params^alpha], [nats/token tokens^beta], [-], [-]

    Returns
    -------
    float or ndarray
        N. [params]

    Notes
    -----
    The inverse of `balanced_tokens`.

    Examples
    --------
    >>> round(balanced_params(19.613e9, 520.8249517, 1487.716094, 0.3526596, 0.3526596) / 1e9, 2)
    1.0

    References
    ----------
    .. [1] N. Muennighoff et al., "Scaling Data-Constrained Language Models", 2023, Appendix A.
    """
    return (alpha * A / (beta * B) * D**beta) ** (1 / alpha)


@formula
def optimal_reducible_loss(
    C: Quantity, A: Quantity, B: Quantity, alpha: Quantity, beta: Quantity, G: Quantity
) -> Quantity:
    """The lowest sum of the two terms that a training budget reaches.

    Parameters
    ----------
    C : number or ndarray
        Training compute. [FLOP]
    A, B, alpha, beta : float
        Of `chinchilla_loss`. [nats/token params^alpha], [nats/token tokens^beta], [-], [-]
    G : float
        `optimum_ratio`. [-]

    Returns
    -------
    float or ndarray
        Loss above the irreducible one. [nats/token]

    Notes
    -----
    Falls as C^(-alpha beta / (alpha + beta)).

    Examples
    --------
    >>> G = optimum_ratio(482.01, 2085.43, 0.3478, 0.3658)
    >>> round(1.8172 + optimal_reducible_loss(5.76e23, 482.01, 2085.43, 0.3478, 0.3658, G), 4)
    1.9744

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, eq. 4 put into eq. 2.
    """
    return (A * G**-alpha + B * G**beta) * (C / 6.0) ** (-alpha * beta / (alpha + beta))


@formula
def compute_for_loss(
    reducible: Quantity, A: Quantity, B: Quantity, alpha: Quantity, beta: Quantity, G: Quantity
) -> Quantity:
    """The least training compute that reaches a loss.

    Parameters
    ----------
    reducible : number or ndarray
        Loss wanted, less the irreducible one. [nats/token]
    A, B, alpha, beta : float
        Of `chinchilla_loss`. [nats/token params^alpha], [nats/token tokens^beta], [-], [-]
    G : float
        `optimum_ratio`. [-]

    Returns
    -------
    float or ndarray
        C. [FLOP]

    Notes
    -----
    The inverse of `optimal_reducible_loss`.

    Examples
    --------
    >>> G = optimum_ratio(482.01, 2085.43, 0.3478, 0.3658)
    >>> f"{compute_for_loss(1.974441 - 1.8172, 482.01, 2085.43, 0.3478, 0.3658, G):.3g}"
    '5.76e+23'

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, eqs. 2 and 4.
    """
    return 6.0 * ((A * G**-alpha + B * G**beta) / reducible) ** ((alpha + beta) / (alpha * beta))
