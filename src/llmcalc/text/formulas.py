"""Text metrics: the leaf formulas. All say one thing: the loss of a text is the text's, not its unit's."""

from __future__ import annotations

from llmcalc.formula import Quantity, exp, formula, log


@formula
def bits_of_nats(nats: Quantity) -> Quantity:
    """Bits of an amount of information given in nats.

    Parameters
    ----------
    nats : float or ndarray
        Cross-entropy, or any information. [nats]

    Returns
    -------
    float or ndarray
        The same. [bits]

    Examples
    --------
    The irreducible loss of Hoffmann et al., 1.69 nats per token:

    >>> round(bits_of_nats(1.69), 3)
    2.438

    References
    ----------
    .. [1] C. Shannon, "A Mathematical Theory of Communication", 1948, section 1: units of base 2 and e.
    """
    return nats / log(2)


@formula
def nats_of_bits(bits: Quantity) -> Quantity:
    """Nats of an amount of information given in bits.

    Parameters
    ----------
    bits : float or ndarray
        Cross-entropy, or any information. [bits]

    Returns
    -------
    float or ndarray
        The same. [nats]

    Examples
    --------
    >>> round(nats_of_bits(1), 9)
    0.693147181

    References
    ----------
    .. [1] C. Shannon, "A Mathematical Theory of Communication", 1948, section 1.
    """
    return bits * log(2)


@formula
def perplexity_of_nats(nats: Quantity) -> Quantity:
    """Perplexity of a cross-entropy in nats: among how many equally likely units the model is as if choosing.

    Parameters
    ----------
    nats : float or ndarray
        Cross-entropy per token, character, byte or word. [nats]

    Returns
    -------
    float or ndarray
        Perplexity per that unit, 1 or more. [-]

    Examples
    --------
    Guessing evenly among GPT-2's 50,257 tokens costs 10.825 nats:

    >>> round(perplexity_of_nats(10.824905), 0)
    50257.0

    References
    ----------
    .. [1] F. Jelinek et al., "Perplexity - a measure of the difficulty of speech recognition tasks", 1977.
    """
    return exp(nats)


@formula
def perplexity_of_bits(bits: Quantity) -> Quantity:
    """Perplexity of a cross-entropy in bits.

    Parameters
    ----------
    bits : float or ndarray
        Cross-entropy per token, character, byte or word. [bits]

    Returns
    -------
    float or ndarray
        Perplexity per that unit, 1 or more. [-]

    Examples
    --------
    GPT-2 XL on enwik8, 0.93 bits per byte:

    >>> round(perplexity_of_bits(0.93), 3)
    1.905

    References
    ----------
    .. [1] A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, Table 3 (the 0.93).
    """
    return 2**bits


@formula
def loss_of_perplexity(perplexity: Quantity) -> Quantity:
    """Cross-entropy in nats of a perplexity.

    Parameters
    ----------
    perplexity : float or ndarray
        Perplexity per token, character, byte or word. [-]

    Returns
    -------
    float or ndarray
        Cross-entropy per that unit. [nats]

    Examples
    --------
    Perplexity 3, one in three:

    >>> round(loss_of_perplexity(3), 4)
    1.0986

    References
    ----------
    .. [1] F. Jelinek et al., "Perplexity - a measure of the difficulty of speech recognition tasks", 1977.
    """
    return log(perplexity)


@formula
def bits_per_character(bits_per_token: Quantity, chars_per_token: Quantity) -> Quantity:
    """Bits per character of a loss per token.

    Parameters
    ----------
    bits_per_token : float or ndarray
        Cross-entropy per token. [bits]
    chars_per_token : float or ndarray
        Unicode code points of a token, on average over the same text. [characters]

    Returns
    -------
    float or ndarray
        Cross-entropy per character. [bits]

    Examples
    --------
    6 bits per token at 2 characters per token:

    >>> bits_per_character(6, 2)
    3.0

    References
    ----------
    .. [1] C. Huyen, "AI Engineering", 2025, chapter 3, section on bits per character and bits per byte.
    """
    return bits_per_token / chars_per_token


@formula
def bits_per_byte(bits_per_character: Quantity, bytes_per_char: Quantity) -> Quantity:
    """Bits per byte of a loss per character.

    Parameters
    ----------
    bits_per_character : float or ndarray
        Cross-entropy per character. [bits]
    bytes_per_char : float or ndarray
        Bytes of a character in its encoding, on average: 1 for ASCII in UTF-8. [B]

    Returns
    -------
    float or ndarray
        Cross-entropy per byte. [bits]

    Notes
    -----
    Equal to bits per character only where every character takes one byte.

    Examples
    --------
    3 bits per character, each of 7 bits:

    >>> round(bits_per_byte(3, 7 / 8), 2)
    3.43

    References
    ----------
    .. [1] C. Huyen, "AI Engineering", 2025, chapter 3, section on bits per character and bits per byte.
    """
    return bits_per_character / bytes_per_char


@formula
def bits_per_unit(bits: Quantity, units: Quantity, other_units: Quantity) -> Quantity:
    """Bits per one unit from bits per another, by how many of each the text has.

    Parameters
    ----------
    bits : float or ndarray
        Cross-entropy per unit: token, character, byte or word. [bits]
    units : float or ndarray
        How many of these units the text has. [-]
    other_units : float or ndarray
        How many of the other it has. [-]

    Returns
    -------
    float or ndarray
        Cross-entropy per other unit. [bits]

    Examples
    --------
    GPT-3 on the Pile: 2.4466 bits per token, 0.29335 tokens per byte:

    >>> round(bits_per_unit(2.4466, 0.29335, 1), 4)
    0.7177

    References
    ----------
    .. [1] L. Gao et al., "The Pile", 2020, section 3.1.
    """
    return bits * units / other_units


@formula
def perplexity_per_unit(perplexity: Quantity, units: Quantity, other_units: Quantity) -> Quantity:
    """Perplexity per one unit from that per another: word perplexity from byte perplexity.

    Parameters
    ----------
    perplexity : float or ndarray
        Perplexity per unit. [-]
    units : float or ndarray
        How many of these units the text has. [-]
    other_units : float or ndarray
        How many of the other it has. [-]

    Returns
    -------
    float or ndarray
        Perplexity per other unit. [-]

    Examples
    --------
    Llama-2-7b on WikiText, byte perplexity 1.5015845643537054, 5.3475 bytes a word:

    >>> round(perplexity_per_unit(1.5015845643537054, 5.3475, 1), 2)
    8.79

    References
    ----------
    .. [1] lm-evaluation-harness, issue 806, and lm_eval/api/metrics.py (weighted_perplexity).
    """
    return perplexity ** (units / other_units)


@formula
def compression_share(bits_per_byte: Quantity) -> Quantity:
    """Size of a text that the model compresses, as a share of the text.

    Parameters
    ----------
    bits_per_byte : float or ndarray
        Cross-entropy per byte. [bits]

    Returns
    -------
    float or ndarray
        Compressed over original bytes. [-]

    Notes
    -----
    With an ideal arithmetic coder, and without the model itself.

    Examples
    --------
    GPT-2 XL on enwik8, 0.93 bits per byte, to 11.6 %:

    >>> round(compression_share(0.93), 3)
    0.116

    References
    ----------
    .. [1] G. Deletang et al., "Language Modeling Is Compression", 2023, section 2.
    """
    return bits_per_byte / 8


@formula
def compression_factor(bits_per_byte: Quantity) -> Quantity:
    """How many times smaller a text becomes that the model compresses.

    Parameters
    ----------
    bits_per_byte : float or ndarray
        Cross-entropy per byte, above 0. [bits]

    Returns
    -------
    float or ndarray
        Original over compressed bytes. [-]

    Notes
    -----
    With an ideal arithmetic coder, and without the model itself.

    Examples
    --------
    >>> round(compression_factor(0.93), 2)
    8.6

    References
    ----------
    .. [1] G. Deletang et al., "Language Modeling Is Compression", 2023, section 2.
    """
    return 8 / bits_per_byte


@formula
def uniform_loss(vocabulary: Quantity) -> Quantity:
    """Loss of guessing evenly among all tokens: where training begins.

    Parameters
    ----------
    vocabulary : int or ndarray
        Tokens to choose from. [-]

    Returns
    -------
    float or ndarray
        Cross-entropy per token. [nats]

    Examples
    --------
    GPT-2, Llama 2 and Llama 3; and Shannon's 27 symbols in bits:

    >>> [round(uniform_loss(size), 3) for size in (50_257, 32_000, 128_256)]
    [10.825, 10.373, 11.762]
    >>> round(bits_of_nats(uniform_loss(27)), 3)
    4.755

    References
    ----------
    .. [1] C. Shannon, "Prediction and Entropy of Printed English", 1951, section 2 (log2 27 = 4.76).
    """
    return log(vocabulary)


@formula
def divergence(cross_entropy: Quantity, entropy: Quantity) -> Quantity:
    """What the model costs beyond the text's own entropy: Kullback-Leibler divergence.

    Parameters
    ----------
    cross_entropy : float or ndarray
        H(P, Q), the loss. [nats or bits]
    entropy : float or ndarray
        H(P), in the same unit. [nats or bits]

    Returns
    -------
    float or ndarray
        KL(P || Q), in that unit. [nats or bits]

    Examples
    --------
    Chinchilla's loss by eq. 10, 1.94 nats, over the 1.69 that remain for an endless model:

    >>> round(divergence(1.94, 1.69), 2)
    0.25

    References
    ----------
    .. [1] S. Kullback, R. Leibler, "On Information and Sufficiency", 1951.
    .. [2] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, eq. 10.
    """
    return cross_entropy - entropy
