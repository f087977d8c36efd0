"""Activations of a GPT block under parallelism: the closed formulas of the literature, beside the tape."""

from __future__ import annotations

from llmcalc.formula import Quantity, formula


@formula
def gpt_layer_bytes(
    sequence: Quantity, batch: Quantity, hidden: Quantity, heads: Quantity, tensor_parallel: Quantity
) -> Quantity:
    """Bytes that a GPT block keeps for backward where tensor ranks share its matrices.

    Parameters
    ----------
    sequence, batch : int or ndarray
        Tokens of a sequence, and sequences. [tokens], [-]
    hidden, heads : int or ndarray
        Width of the model, and attention heads. [elements], [-]
    tensor_parallel : int or ndarray
        Ranks that share each tensor. [-]

    Returns
    -------
    float or ndarray
        Bytes of one layer on each rank. [B]

    Notes
    -----
    16-bit activations, GELU, dropout, a feed-forward of four times the width, scores kept. Norms and the
    dropouts beside them are on every rank.

    Examples
    --------
    GPT-3 (96 heads, width 12,288) on 8 ranks with 2,048 tokens keeps 23 bytes for each element of the
    residual stream:

    >>> gpt_layer_bytes(2048, 1, 12288, 96, 8) / (2048 * 12288)
    23.0

    References
    ----------
    .. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022,
       equation 2.
    """
    return (
        sequence
        * batch
        * hidden
        * (10 + 24 / tensor_parallel + 5 * heads * sequence / (hidden * tensor_parallel))
    )


@formula
def gpt_sequence_parallel_bytes(
    sequence: Quantity, batch: Quantity, hidden: Quantity, heads: Quantity, tensor_parallel: Quantity
) -> Quantity:
    """Bytes that a GPT block keeps where tensor ranks share tokens between the matrices too.

    Parameters
    ----------
    sequence, batch, hidden, heads, tensor_parallel : int or ndarray
        As in `gpt_layer_bytes`. [tokens], [-], [elements], [-], [-]

    Returns
    -------
    float or ndarray
        Bytes of one layer on each rank. [B]

    Notes
    -----
    As `gpt_layer_bytes`.

    Examples
    --------
    62 % of tensor parallelism alone, for GPT-3 on 8 ranks (figure 7):

    >>> whole = gpt_layer_bytes(2048, 1, 12288, 96, 8)
    >>> round(100 * gpt_sequence_parallel_bytes(2048, 1, 12288, 96, 8) / whole)
    62

    References
    ----------
    .. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022,
       equation 4.
    """
    return sequence * batch * hidden / tensor_parallel * (34 + 5 * heads * sequence / hidden)


@formula
def gpt_selective_bytes(
    sequence: Quantity, batch: Quantity, hidden: Quantity, tensor_parallel: Quantity
) -> Quantity:
    """Bytes that a GPT block keeps where the attention core is computed again, without sequence parallelism.

    Parameters
    ----------
    sequence, batch, hidden, tensor_parallel : int or ndarray
        As in `gpt_layer_bytes`. [tokens], [-], [elements], [-]

    Returns
    -------
    float or ndarray
        Bytes of one layer on each rank. [B]

    Notes
    -----
    As `gpt_layer_bytes`, without scores, their softmax and its dropout.

    Examples
    --------
    56.5 % for GPT-3 on 8 ranks (figure 7):

    >>> whole = gpt_layer_bytes(2048, 1, 12288, 96, 8)
    >>> round(100 * gpt_selective_bytes(2048, 1, 12288, 8) / whole, 1)
    56.5

    References
    ----------
    .. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022,
       section 5.
    """
    return sequence * batch * hidden * (10 + 24 / tensor_parallel)


@formula
def gpt_sequence_selective_bytes(
    sequence: Quantity, batch: Quantity, hidden: Quantity, tensor_parallel: Quantity
) -> Quantity:
    """Bytes that a GPT block keeps with both: tokens shared, the attention core computed again.

    Parameters
    ----------
    sequence, batch, hidden, tensor_parallel : int or ndarray
        As in `gpt_layer_bytes`. [tokens], [-], [elements], [-]

    Returns
    -------
    float or ndarray
        Bytes of one layer on each rank. [B]

    Notes
    -----
    As `gpt_layer_bytes`.

    Examples
    --------
    18.5 % for GPT-3 on 8 ranks (figure 7):

    >>> whole = gpt_layer_bytes(2048, 1, 12288, 96, 8)
    >>> round(100 * gpt_sequence_selective_bytes(2048, 1, 12288, 8) / whole, 1)
    18.5

    References
    ----------
    .. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022,
       equation 6.
    """
    return sequence * batch * hidden * 34 / tensor_parallel


@formula
def gpt_full_recompute_bytes(sequence: Quantity, batch: Quantity, hidden: Quantity) -> Quantity:
    """Bytes that a GPT block keeps where all of it is computed again: its input.

    Parameters
    ----------
    sequence, batch, hidden : int or ndarray
        As in `gpt_layer_bytes`. [tokens], [-], [elements]

    Returns
    -------
    int or ndarray of int64
        Bytes of one layer on each rank. [B]

    Notes
    -----
    Inputs in 16 bit, whole on every rank.

    Examples
    --------
    8.7 % for GPT-3 on 8 ranks (figure 7):

    >>> round(100 * gpt_full_recompute_bytes(2048, 1, 12288) / gpt_layer_bytes(2048, 1, 12288, 96, 8), 1)
    8.7

    References
    ----------
    .. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022,
       section 5.
    """
    return 2 * sequence * batch * hidden


@formula
def pipeline_bubble(stages: Quantity, micro_batches: Quantity, chunks: Quantity) -> Quantity:
    """Time that a pipeline stage waits, as a share of the time it works.

    Parameters
    ----------
    stages, micro_batches, chunks : int or ndarray
        Of the pipeline, of a step, and of layers on each stage. [-]

    Returns
    -------
    float or ndarray
        Share. [-]

    Notes
    -----
    All stages take the same time, communication none; 1F1B, interleaved with more than one chunk.

    Examples
    --------
    Four stages and eight micro-batches wait for three eighths of their working time:

    >>> pipeline_bubble(4, 8, 1)
    0.375

    References
    ----------
    .. [1] D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
       Megatron-LM", 2021, section 2.2.
    """
    return (stages - 1) / (chunks * micro_batches)
