"""Learning rates, batch sizes, vocabulary, precision and tasks, as formulas."""

from __future__ import annotations

from llmcalc.formula import Quantity, exp, formula, log


@formula
def product_law(N: Quantity, D: Quantity, coefficient: Quantity, p_N: Quantity,
                p_D: Quantity) -> Quantity:  # fmt: skip
    """A learning rate by parameters and tokens.

    Parameters
    ----------
    N, D : number or ndarray
        Parameters as the law counts them, and training tokens. [params], [tokens]
    coefficient : float
        Value at N = D = 1. [-]
    p_N, p_D : float
        Slopes. [-]

    Returns
    -------
    float or ndarray
        Peak learning rate. [-]

    Notes
    -----
    Step Law: AdamW, cosine to a fixed 1e-5.

    Examples
    --------
    7 B parameters on 1.4 T tokens:

    >>> round(product_law(7e9, 1.4e12, 1.79, -0.713, 0.307), 6)
    0.000917

    References
    ----------
    .. [1] H. Li et al., "Predictable Scale: Part I", 2025, abstract.
    """
    return coefficient * N**p_N * D**p_D


@formula
def expert_rate(N: Quantity, E: Quantity, l_0: Quantity, l_N: Quantity, l_E: Quantity) -> Quantity:
    """A learning rate by active parameters and experts.

    Parameters
    ----------
    N : number or ndarray
        Active parameters without embeddings. [params]
    E : number or ndarray
        Experts, 1 for a dense model. [experts]
    l_0, l_N, l_E : float
        Constants of the logarithm. [-]

    Returns
    -------
    float or ndarray
        Peak learning rate. [-]

    Notes
    -----
    Up to 2.7 B active parameters and 32 experts.

    Examples
    --------
    >>> round(expert_rate(1e9, 8, 8.39, -0.81, -0.25), 6)
    0.000134

    References
    ----------
    .. [1] J. Ludziejewski et al., "Joint MoE Scaling Laws", 2025, section 5.1.2.
    """
    return exp(l_0 + l_N * log(N) + l_E * log(E))


@formula
def batch_of_loss(L: Quantity, coefficient: Quantity, exponent: Quantity) -> Quantity:
    """A batch size by the loss reached.

    Parameters
    ----------
    L : number or ndarray
        Loss. [nats/token]
    coefficient : float
        Batch at a loss of 1. [tokens]
    exponent : float
        How it grows as the loss falls: 1/alpha_B in Kaplan's notation. [-]

    Returns
    -------
    float or ndarray
        Batch. [tokens]

    Notes
    -----
    Losses of different tokenizers and data are not the same.

    Examples
    --------
    Kaplan's critical batch at a loss of 3:

    >>> round(batch_of_loss(3, 2.1e8, 1 / 0.21))
    1122570

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, eq. 1.4, Table 5.
    .. [2] S. Hu et al., "MiniCPM", 2024, section 3.2.
    """
    return coefficient / L**exponent


@formula
def steps_over_least(B: Quantity, B_crit: Quantity) -> Quantity:
    """Steps at a batch size, over the least number that any batch needs.

    Parameters
    ----------
    B, B_crit : number or ndarray
        Batch and critical batch. [tokens]

    Returns
    -------
    float or ndarray
        S/S_min, above 1: 2 at the critical batch. [-]

    Notes
    -----
    To the same loss, at a tuned learning rate.

    Examples
    --------
    >>> steps_over_least(1e6, 1e6)
    2.0

    References
    ----------
    .. [1] S. McCandlish et al., "An Empirical Model of Large-Batch Training", 2018, section 2.
    """
    return 1 + B_crit / B


@formula
def tokens_over_least(B: Quantity, B_crit: Quantity) -> Quantity:
    """Tokens at a batch size, over the least number that any batch needs.

    Parameters
    ----------
    B, B_crit : number or ndarray
        Batch and critical batch. [tokens]

    Returns
    -------
    float or ndarray
        E/E_min, above 1: 2 at the critical batch. [-]

    Notes
    -----
    (S/S_min - 1)(E/E_min - 1) = 1.

    Examples
    --------
    >>> tokens_over_least(2.5e5, 1e6)
    1.25

    References
    ----------
    .. [1] S. McCandlish et al., "An Empirical Model of Large-Batch Training", 2018, section 2.
    """
    return 1 + B / B_crit


@formula
def total_params(N: Quantity, gamma: Quantity) -> Quantity:
    """All parameters of a model by those that are no embedding.

    Parameters
    ----------
    N : number or ndarray
        Non-embedding parameters. [params]
    gamma : float
        47,491 for a vocabulary of 32,000 and a width of 39.2 times the layers. [params^(2/3)]

    Returns
    -------
    float or ndarray
        Total parameters. [params]

    Notes
    -----
    For shapes like Chinchilla's; a larger vocabulary means more.

    Examples
    --------
    >>> round(total_params(1e9, 47491) / 1e9, 3)
    1.047

    References
    ----------
    .. [1] T. Pearce and J. Song, "Reconciling Kaplan and Chinchilla Scaling Laws", 2024.
    """
    return N + gamma * N ** (1 / 3)


@formula
def tokens_per_character(V: Quantity, c_2: Quantity, c_1: Quantity, c_0: Quantity) -> Quantity:
    """Tokens that a character of English takes, by the size of the vocabulary.

    Parameters
    ----------
    V : number or ndarray
        Vocabulary, at most 200,000. [tokens]
    c_2, c_1, c_0 : float
        Of a parabola in ln V. [tokens/character]

    Returns
    -------
    float or ndarray
        Tokens for each character. [tokens/character]

    Notes
    -----
    English pre-training text; 4,000 to 96,000 words fitted.

    Examples
    --------
    >>> round(1 / tokens_per_character(32000, 0.00639222, -0.15811069, 1.20470122), 3)
    3.962

    References
    ----------
    .. [1] C. Tao et al., "Scaling Laws with Vocabulary", 2024, and its code.
    """
    return c_2 * log(V) ** 2 + c_1 * log(V) + c_0


@formula
def vocabulary_loss(N: Quantity, N_v: Quantity, D: Quantity, E: Quantity, A_1: Quantity, a_1: Quantity,
                    A_2: Quantity, a_2: Quantity, B: Quantity, beta: Quantity) -> Quantity:  # fmt: skip
    """Unigram-normalised loss by parameters, vocabulary parameters and tokens.

    Parameters
    ----------
    N, N_v : number or ndarray
        Parameters without the vocabulary's, and those of the vocabulary. [millions]
    D : number or ndarray
        Training tokens. [billions]
    E, A_1, A_2, B : float
        Constants. [nats]
    a_1, a_2, beta : float
        Exponents. [-]

    Returns
    -------
    float or ndarray
        Loss against a unigram model, negative. [nats]

    Notes
    -----
    33 M to 3 B parameters.

    Examples
    --------
    >>> vocabulary_loss(1.0, 1.0, 1.0, 5.0, 1, 1, 1, 1, 1, 1)
    -2.0

    References
    ----------
    .. [1] C. Tao et al., "Scaling Laws with Vocabulary", 2024, approach 3.
    """
    return -E + A_1 / N**a_1 + A_2 / N_v**a_2 + B / D**beta


@formula
def precision_params(N: Quantity, P: Quantity, gamma: Quantity, n: Quantity) -> Quantity:
    """Parameters that a model of low precision is worth.

    Parameters
    ----------
    N : number or ndarray
        Parameters. [params]
    P : number or ndarray
        Bits of weights, activations or KV cache. [bit]
    gamma : float
        Bits over which precision saturates. [bit]
    n : float
        Bias added to the exponent; 0 without. [-]

    Returns
    -------
    float or ndarray
        N_eff, a factor for each of the three. [params]

    Notes
    -----
    A form: where the published biases enter was not seen, so the catalog's law gives full precision only.

    Examples
    --------
    >>> round(precision_params(1e9, 8, 2.6745, 0) / 1e9, 2)
    0.95

    References
    ----------
    .. [1] T. Kumar et al., "Scaling Laws for Precision", 2024, section 4.
    """
    return N * (1 - exp(-P / gamma + n))


@formula
def task_accuracy(L: Quantity, a: Quantity, k: Quantity, L_0: Quantity, b: Quantity) -> Quantity:
    """Accuracy of a task by its loss.

    Parameters
    ----------
    L : number or ndarray
        Bits per byte of the right answer. [bit/byte]
    a, b : float
        Span below the ceiling, negative, and the ceiling. [-]
    k, L_0 : float
        Steepness and middle of the step. [byte/bit], [bit/byte]

    Returns
    -------
    float or ndarray
        Accuracy. [-]

    Notes
    -----
    A form to fit, each task with its own runs.

    Examples
    --------
    >>> task_accuracy(1.0, -0.75, 5.0, 1.0, 1.0)
    0.625

    References
    ----------
    .. [1] A. Bhagia et al., "Establishing Task Scaling Laws via Compute-Efficient Model Ladders", 2024.
    """
    return a / (1 + exp(-k * (L - L_0))) + b
