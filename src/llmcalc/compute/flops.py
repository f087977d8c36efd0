"""Floating-point operations: the leaf formulas.

Each is one equation that takes numbers or numpy arrays. A multiplication and the addition that goes with it
count as two. `llmcalc.compute.ops` calls them over an inventory.
"""

from __future__ import annotations

from llmcalc.formula import Quantity, formula, smaller


@formula
def linear_flops(tokens: Quantity, outputs: Quantity, inputs: Quantity) -> Quantity:
    """Operations of a matrix product: each token through a matrix of outputs x inputs.

    Parameters
    ----------
    tokens : int or ndarray
        Tokens that pass through it. [tokens]
    outputs, inputs : int or ndarray
        Widths of what it makes and of what it reads. [elements]

    Returns
    -------
    int or ndarray
        Operations of one forward pass. [FLOP]

    Notes
    -----
    Biases are not counted. The backward pass takes the same for the gradient of the input and the same for
    that of the weight.

    Examples
    --------
    The up projection of Llama-3.1-8B, one token: 2 x 4,096 x 14,336.

    >>> linear_flops(1, 14336, 4096)
    117440512

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, table 1.
    """
    return 2 * tokens * outputs * inputs


@formula
def attention_flops(pairs: Quantity, query_width: Quantity, value_width: Quantity) -> Quantity:
    """Operations of attention itself: scores of the pairs, and the weighted sum of values.

    Parameters
    ----------
    pairs : int or ndarray
        Pairs of a query's and a key's position. [-]
    query_width, value_width : int or ndarray
        Width of all query heads together, and of what they read. [elements]

    Returns
    -------
    int or ndarray
        Operations of one layer and one forward pass. [FLOP]

    Notes
    -----
    Two products; softmax, masks and rotations are not counted. Sharing keys between heads saves memory, not
    operations.

    Examples
    --------
    GPT-3 (96 heads of 128) over all pairs of 2,048 tokens; Narayanan et al. write 4 B s^2 h:

    >>> attention_flops(2048 * 2048, 12288, 12288) == 4 * 2048 * 2048 * 12288
    True

    References
    ----------
    .. [1] D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
       Megatron-LM", 2021, appendix.
    """
    return 2 * pairs * (query_width + value_width)


@formula
def causal_pairs(tokens: Quantity, window: Quantity) -> Quantity:
    """Pairs that a causal mask lets through, where each position sees at most `window`, itself included.

    Parameters
    ----------
    tokens : int or ndarray
        Tokens of the sequence. [tokens]
    window : int or ndarray
        Positions that a query looks at; the number of tokens where there is no window. [tokens]

    Returns
    -------
    int or ndarray
        Pairs. [-]

    Examples
    --------
    Four tokens without a window see 1 + 2 + 3 + 4 positions, with a window of two 1 + 2 + 2 + 2:

    >>> causal_pairs(4, 4), causal_pairs(4, 2)
    (10, 7)

    References
    ----------
    .. [1] A. Q. Jiang et al., "Mistral 7B", 2023, figure 1 (sliding window).
    """
    return smaller(tokens, window) * tokens - smaller(tokens, window) * (smaller(tokens, window) - 1) // 2


@formula
def chunked_pairs(tokens: Quantity, chunk: Quantity) -> Quantity:
    """Pairs of causal attention inside chunks: a position sees those before it in its own chunk.

    Parameters
    ----------
    tokens, chunk : int or ndarray
        Tokens of the sequence, and of a chunk. [tokens]

    Returns
    -------
    int or ndarray
        Pairs. [-]

    Examples
    --------
    Five tokens in chunks of two: (1 + 2) + (1 + 2) + 1.

    >>> chunked_pairs(5, 2)
    7

    References
    ----------
    .. [1] Meta, Llama 4, 2025 (transformers 5.23.0, models/llama4: attention_chunk_size).
    """
    return (
        tokens // chunk * (chunk * (chunk + 1) // 2)
        + (tokens - tokens // chunk * chunk) * (tokens - tokens // chunk * chunk + 1) // 2
    )


@formula
def local_pairs(tokens: Quantity, reach: Quantity) -> Quantity:
    """Pairs of two-sided local attention: a position sees `reach` neighbours on either side and itself.

    Parameters
    ----------
    tokens, reach : int or ndarray
        Tokens of the sequence, and neighbours seen on one side. [tokens]

    Returns
    -------
    int or ndarray
        Pairs. [-]

    Examples
    --------
    Four tokens that see one neighbour on either side: 2 + 3 + 3 + 2.

    >>> local_pairs(4, 1)
    10

    References
    ----------
    .. [1] B. Warner et al., "Smarter, Better, Faster, Longer" (ModernBERT), 2024, section 2.1.
    """
    return (
        tokens
        + 2 * smaller(reach, tokens - 1) * tokens
        - smaller(reach, tokens - 1) * (smaller(reach, tokens - 1) + 1)
    )


@formula
def scan_flops(tokens: Quantity, state: Quantity, per_element: Quantity) -> Quantity:
    """Operations of a recurrent state: each token decays it, writes to it and reads it.

    Parameters
    ----------
    tokens : int or ndarray
        Tokens. [tokens]
    state : int
        Elements of one layer's state. [elements]
    per_element : int
        5 for a decay, an outer product, a sum and a read; 7 where the delta rule reads once more before it
        writes. [FLOP]

    Returns
    -------
    int or ndarray
        Operations of one layer and one forward pass. [FLOP]

    Notes
    -----
    The recurrence itself. Kernels that work in chunks replace it by matrix products, and execute more.

    Examples
    --------
    Mamba-2 2.7B, one token and layer: 80 heads of 64 with 128 states.

    >>> scan_flops(1, 80 * 64 * 128, 5)
    3276800

    References
    ----------
    .. [1] T. Dao, A. Gu, "Transformers are SSMs", 2024, equation 1.
    .. [2] S. Yang et al., "Gated Delta Networks", 2024, equation 10.
    """
    return per_element * tokens * state


@formula
def convolution_flops(tokens: Quantity, channels: Quantity, kernel: Quantity) -> Quantity:
    """Operations of a depthwise convolution over the last positions.

    Parameters
    ----------
    tokens : int or ndarray
        Tokens. [tokens]
    channels, kernel : int
        Channels, and positions it looks at. [-], [tokens]

    Returns
    -------
    int or ndarray
        Operations of one layer and one forward pass. [FLOP]

    Examples
    --------
    >>> convolution_flops(1, 5376, 4)
    43008

    References
    ----------
    .. [1] A. Gu, T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023,
       section 3.4.
    """
    return 2 * tokens * channels * kernel


@formula
def adapter_flops(tokens: Quantity, outputs: Quantity, inputs: Quantity, rank: Quantity) -> Quantity:
    """Operations of a low-rank adapter beside a matrix.

    Parameters
    ----------
    tokens : int or ndarray
        Tokens. [tokens]
    outputs, inputs, rank : int or ndarray
        Widths of the matrix, and the adapter's rank. [elements], [-]

    Returns
    -------
    int or ndarray
        Operations of one forward pass. [FLOP]

    Examples
    --------
    Rank 16 beside the up projection of Llama-3.1-8B, one token:

    >>> adapter_flops(1, 14336, 4096, 16)
    589824

    References
    ----------
    .. [1] E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, equation 3.
    """
    return 2 * tokens * rank * (outputs + inputs)
