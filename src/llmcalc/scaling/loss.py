"""Compute, and loss by parameters and tokens, as formulas.

Field-standard symbols: N parameters, D tokens, C training FLOPs, L loss in nats per token. Counts may be
integers or floats; FLOPs are always floats, since 6 N D outgrows 64-bit integers.
"""

from __future__ import annotations

from llmcalc.formula import Quantity, formula


@formula
def training_flops(N: Quantity, D: Quantity) -> Quantity:
    """FLOPs of training: forward and backward, six for each parameter and token.

    Parameters
    ----------
    N : number or ndarray
        Parameters that take part in matrix products; active ones of a mixture. [params]
    D : number or ndarray
        Training tokens. [tokens]

    Returns
    -------
    float or ndarray
        Training compute; a float, so it can't overflow. [FLOP]

    Notes
    -----
    Leaves out attention over the context, which adds a share of about context / (12 x width).

    Examples
    --------
    Chinchilla, 70 B parameters on 1.4 T tokens, is 5.88e23 FLOP:

    >>> training_flops(70_000_000_000, 1_400_000_000_000)
    5.88e+23

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, section 2.1.
    """
    return 6.0 * N * D


@formula
def inference_flops(N: Quantity, D: Quantity) -> Quantity:
    """FLOPs of inference: the forward pass, two for each parameter and token.

    Parameters
    ----------
    N : number or ndarray
        Active parameters. [params]
    D : number or ndarray
        Tokens read and written. [tokens]

    Returns
    -------
    float or ndarray
        Compute. [FLOP]

    Notes
    -----
    Leaves out attention over the context.

    Examples
    --------
    >>> inference_flops(7e9, 1e11)
    1.4e+21

    References
    ----------
    .. [1] N. Sardana et al., "Beyond Chinchilla-Optimal", 2024, section 2.
    """
    return 2.0 * N * D


@formula
def gpu_flops(gpus: Quantity, days: Quantity, peak: Quantity, mfu: Quantity) -> Quantity:
    """FLOPs that GPUs give in some days at a share of their peak.

    Parameters
    ----------
    gpus, days : number or ndarray
        How many, and how long. [-], [days]
    peak : number or ndarray
        Dense peak of one GPU. [FLOP/s]
    mfu : number or ndarray
        Share of it that the model uses, 0 to 1. [-]

    Returns
    -------
    float or ndarray
        Compute. [FLOP]

    Notes
    -----
    Model FLOPs utilization counts 6 N D; what recomputation costs is inside the share.

    Examples
    --------
    A PF-day is 8.64e19 FLOP:

    >>> gpu_flops(1, 1, 1e15, 1)
    8.64e+19

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, section 1.3 (PF-day).
    """
    return gpus * days * 86400.0 * peak * mfu


@formula
def chinchilla_loss(
    N: Quantity, D: Quantity, E: Quantity, A: Quantity, B: Quantity, alpha: Quantity, beta: Quantity
) -> Quantity:
    """Loss by parameters and tokens: what can't be learnt, a term of size and a term of data.

    Parameters
    ----------
    N, D : number or ndarray
        Parameters and training tokens. [params], [tokens]
    E : float
        Irreducible loss. [nats/token]
    A, B : float
        Coefficients of the two terms. [nats/token params^alpha], [nats/token tokens^beta]
    alpha, beta : float
        Their exponents. [-]

    Returns
    -------
    float or ndarray
        Loss at the end of training. [nats/token]

    Notes
    -----
    Fresh tokens, a schedule that ends with training. Good inside the range of sizes and budgets fitted.

    Examples
    --------
    Chinchilla's own point under the refit of Besiroglu et al.:

    >>> round(chinchilla_loss(70e9, 1.4e12, 1.8172, 482.01, 2085.43, 0.3478, 0.3658), 3)
    1.974

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, eq. 2.
    """
    return E + A / N**alpha + B / D**beta


@formula
def supervised_loss(
    N: Quantity,
    D: Quantity,
    E: Quantity,
    A: Quantity,
    B: Quantity,
    alpha: Quantity,
    beta: Quantity,
    gamma: Quantity,
) -> Quantity:
    """Loss by parameters and tokens with an exponent over both terms.

    Parameters
    ----------
    N, D : number or ndarray
        Parameters and training tokens. [params], [tokens]
    E : float
        Irreducible loss. [nats/token]
    A, B : float
        Coefficients of the two terms. [(nats/token)^(1/gamma) params^alpha], likewise of tokens
    alpha, beta, gamma : float
        Exponents. [-]

    Returns
    -------
    float or ndarray
        Loss. [nats/token]

    Notes
    -----
    With gamma = 1 it is `chinchilla_loss`.

    Examples
    --------
    >>> round(supervised_loss(1e9, 20e9, 1.22, 3355, 18186, 0.408, 0.431, 0.452), 2)
    2.37

    References
    ----------
    .. [1] D. Busbridge et al., "Distillation Scaling Laws", 2025, eq. 7.
    """
    return E + (A / N**alpha + B / D**beta) ** gamma
