"""Losses of other forms, and plans away from the optimum, as formulas."""

from __future__ import annotations

from llmcalc.formula import Quantity, exp, formula


@formula
def tokens_for_loss(N: Quantity, reducible: Quantity, A: Quantity, B: Quantity, alpha: Quantity,
                    beta: Quantity) -> Quantity:  # fmt: skip
    """Tokens with which N parameters reach a loss.

    Parameters
    ----------
    N : number or ndarray
        Parameters; above (A/reducible)^(1/alpha), or no number of tokens is enough. [params]
    reducible : number or ndarray
        Loss wanted, less the irreducible one. [nats/token]
    A, B, alpha, beta : float
        Of `chinchilla_loss`. [nats/token params^alpha], [nats/token tokens^beta], [-], [-]

    Returns
    -------
    float or ndarray
        D. [tokens]

    Notes
    -----
    Fresh tokens.

    Examples
    --------
    The smaller, longer trained twin of a compute-optimal 7 B model (Hoffmann, approach 3):

    >>> law = dict(A=406.4010175, B=410.7228269, alpha=0.33917084, beta=0.2849083)
    >>> same = 406.4010175 / 7e9**0.33917084 + 410.7228269 / 2.93e11**0.2849083
    >>> round(tokens_for_loss(6e9, same, **law) / 2.93e11, 2)
    1.18

    References
    ----------
    .. [1] N. Sardana et al., "Beyond Chinchilla-Optimal", 2024, section 3.
    """
    return (B / (reducible - A / N**alpha)) ** (1 / beta)


@formula
def inference_balance(N: Quantity, D: Quantity, A: Quantity, B: Quantity, alpha: Quantity,
                      beta: Quantity) -> Quantity:  # fmt: skip
    """How much more one more percent of parameters lowers the loss than one more percent of tokens.

    Parameters
    ----------
    N, D : number or ndarray
        Parameters and training tokens. [params], [tokens]
    A, B, alpha, beta : float
        Of `chinchilla_loss`. [nats/token params^alpha], [nats/token tokens^beta], [-], [-]

    Returns
    -------
    float or ndarray
        1 at the compute-optimal split; 1 + D_inf/(3 D) where D_inf tokens of inference follow. [-]

    Notes
    -----
    The first-order condition of least 6 N D + 2 N D_inf at a fixed loss.

    Examples
    --------
    >>> round(inference_balance(40.3609e9, 2378.54e9, 406.4010175, 410.7228269, 0.33917084, 0.2849083), 4)
    1.0

    References
    ----------
    .. [1] N. Sardana et al., "Beyond Chinchilla-Optimal", 2024, eq. 3, differentiated.
    """
    return alpha * A / N**alpha / (beta * B / D**beta)


@formula
def power_law(x: Quantity, coefficient: Quantity, exponent: Quantity) -> Quantity:
    """A straight line in logarithms: allocations, learning rates, batch sizes.

    Parameters
    ----------
    x : number or ndarray
        Compute, parameters or tokens, as the law says. [FLOP], [params] or [tokens]
    coefficient : float
        Value at x = 1. [the law's]
    exponent : float
        Slope. [-]

    Returns
    -------
    float or ndarray
        The value. [the law's]

    Notes
    -----
    Good inside the range fitted: a small error of the exponent grows with the distance.

    Examples
    --------
    Llama 3's tokens at 3.8e25 FLOP by the line of its Figure 3:

    >>> round(power_law(3.8e25, 0.299, 0.537) / 1e12, 1)
    16.3

    References
    ----------
    .. [1] A. Grattafiori et al., "The Llama 3 Herd of Models", 2024, section 3.2.1.
    """
    return coefficient * x**exponent


@formula
def ratio_params(C: Quantity, ratio: Quantity) -> Quantity:
    """Parameters of a budget at a fixed number of tokens for each.

    Parameters
    ----------
    C : number or ndarray
        Training compute. [FLOP]
    ratio : float
        Tokens for each parameter. [tokens/param]

    Returns
    -------
    float or ndarray
        N. [params]

    Notes
    -----
    With C = 6 N D. The rule of 20 is one budget of one law.

    Examples
    --------
    >>> round(ratio_params(5.76e23, 20) / 1e9, 1)
    69.3

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, Table 3.
    """
    return (C / (6.0 * ratio)) ** 0.5


@formula
def power_loss(x: Quantity, scale: Quantity, exponent: Quantity) -> Quantity:
    """Loss by one quantity alone: parameters, tokens or compute.

    Parameters
    ----------
    x : number or ndarray
        Parameters, tokens, or compute. [params], [tokens] or [PF-days]
    scale : float
        Where the loss would be 1. [as x]
    exponent : float
        Slope. [-]

    Returns
    -------
    float or ndarray
        Loss. [nats/token]

    Notes
    -----
    Has no irreducible loss, so it fails far beyond the range fitted.

    Examples
    --------
    >>> round(power_loss(1e9, 8.8e13, 0.076), 7)
    2.3756403

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, eqs. 1.1 to 1.3.
    """
    return (scale / x) ** exponent


@formula
def kaplan_loss(N: Quantity, D: Quantity, N_c: Quantity, D_c: Quantity, alpha_N: Quantity,
                alpha_D: Quantity) -> Quantity:  # fmt: skip
    """Loss by parameters and tokens in Kaplan's form.

    Parameters
    ----------
    N, D : number or ndarray
        Non-embedding parameters, and tokens of the data set. [params], [tokens]
    N_c, D_c : float
        Scales. [params], [tokens]
    alpha_N, alpha_D : float
        Slopes. [-]

    Returns
    -------
    float or ndarray
        Loss of a model stopped early. [nats/token]

    Notes
    -----
    Its constants are not those of the laws by one quantity.

    Examples
    --------
    >>> round(kaplan_loss(1e9, 2e10, 6.4e13, 1.8e13, 0.076, 0.103), 8)
    2.37388245

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, eq. 1.5, Table 2.
    """
    return ((N_c / N) ** (alpha_N / alpha_D) + D_c / D) ** alpha_D


@formula
def kaplan_curve(N: Quantity, S: Quantity, N_c: Quantity, alpha_N: Quantity, S_c: Quantity,
                 alpha_S: Quantity) -> Quantity:  # fmt: skip
    """Learning curve: loss by parameters and steps.

    Parameters
    ----------
    N, S : number or ndarray
        Non-embedding parameters, and steps at a batch far above the critical one. [params], [steps]
    N_c, S_c : float
        Scales. [params], [steps]
    alpha_N, alpha_S : float
        Slopes. [-]

    Returns
    -------
    float or ndarray
        Loss. [nats/token]

    Notes
    -----
    A form to fit: the catalog holds no constants for it.

    Examples
    --------
    >>> kaplan_curve(1e9, 1000, 1e9, 0.076, 1000, 0.76)
    2.0

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, eq. 1.6.
    """
    return (N_c / N) ** alpha_N + (S_c / S) ** alpha_S


@formula
def frontier_loss(C: Quantity, C_0: Quantity, exponent: Quantity, E: Quantity) -> Quantity:
    """Loss by compute along a frontier, above an irreducible one.

    Parameters
    ----------
    C : number or ndarray
        Training compute as the law counts it. [FLOP]
    C_0 : float
        Where the reducible loss is 1. [FLOP]
    exponent : float
        Slope, below 0. [-]
    E : float
        Irreducible loss. [nats/token]

    Returns
    -------
    float or ndarray
        Loss. [nats/token]

    Notes
    -----
    Cerebras-GPT: 20 tokens per parameter; FLOPs include attention and embedding.

    Examples
    --------
    Cerebras-GPT 13B, measured 1.572 in the paper:

    >>> round(frontier_loss(2.3e22, 5.984e22, -0.0737, 0.5066), 4)
    1.5796

    References
    ----------
    .. [1] N. Dey et al., "Cerebras-GPT", 2023, eq. 1.
    """
    return (C / C_0) ** exponent + E


@formula
def overtrained_loss(C: Quantity, M: Quantity, E: Quantity, a: Quantity, b: Quantity,
                     eta: Quantity) -> Quantity:  # fmt: skip
    """Loss by compute and tokens per parameter.

    Parameters
    ----------
    C : number or ndarray
        Training compute. [FLOP]
    M : number or ndarray
        Tokens for each parameter. [tokens/param]
    E, a, b : float
        Irreducible loss and the two coefficients. [nats/token], [nats/token FLOP^eta], likewise
    eta : float
        Exponent, half of Chinchilla's where alpha = beta. [-]

    Returns
    -------
    float or ndarray
        Loss. [nats/token]

    Notes
    -----
    `chinchilla_loss` with tied exponents in other variables. The optimum is M = (b/a)^(1/(2 eta)). A form to
    fit: the catalog holds no constants for it.

    Examples
    --------
    >>> round(overtrained_loss(1e18, 1, 1.5, 100.0, 100.0, 0.1), 4)
    4.6698

    References
    ----------
    .. [1] S. Gadre et al., "Language models scale reliably with over-training", 2024, eq. 4.
    """
    return E + (a * M**eta + b * M**-eta) * C**-eta


@formula
def farseer_loss(N: Quantity, D: Quantity, s: Quantity, q: Quantity, S: Quantity, B: Quantity, b: Quantity,
                 Q: Quantity, A: Quantity, a: Quantity, E: Quantity) -> Quantity:  # fmt: skip
    """Loss in Farseer's form, where both data terms depend on the size.

    Parameters
    ----------
    N, D : number or ndarray
        Parameters and training tokens. [params], [tokens]
    s, q, S, B, b, Q, A, a, E : float
        Constants to fit. [-]

    Returns
    -------
    float or ndarray
        Loss. [nats/token]

    Notes
    -----
    A form to fit: no constants were seen.

    Examples
    --------
    >>> farseer_loss(1.0, 1.0, 0, 1, 0, 0, 1, 0, 0, 1, 0)
    2.0

    References
    ----------
    .. [1] H. Li et al., "Predictable Scale: Part II, Farseer", 2025, eq. 3.
    """
    return exp(s * N**q + S) + exp(B * N**b + Q) * D ** -exp(A * N**a + E)


@formula
def sparse_loss(N: Quantity, D: Quantity, S: Quantity, a_S: Quantity, b_S: Quantity, c_S: Quantity,
                b_N: Quantity, a_D: Quantity, b_D: Quantity, c: Quantity) -> Quantity:  # fmt: skip
    """Loss of a sparse model by its non-zero parameters.

    Parameters
    ----------
    N, D : number or ndarray
        Non-zero parameters, and training tokens. [params], [tokens]
    S : number or ndarray
        Share of weights that are zero. [-]
    a_S, b_S, c_S, b_N, a_D, b_D, c : float
        Constants to fit. [-]

    Returns
    -------
    float or ndarray
        Loss. [nats/token]

    Notes
    -----
    A form to fit: no constants were seen.

    Examples
    --------
    >>> sparse_loss(1.0, 1.0, 0.0, 1, 1, 1, 1, 1, 1, 1)
    4.0

    References
    ----------
    .. [1] E. Frantar et al., "Scaling Laws for Sparsely-Connected Foundation Models", 2023, eq. 1.
    """
    return (a_S * (1 - S) ** b_S + c_S) * (1 / N) ** b_N + (a_D / D) ** b_D + c
