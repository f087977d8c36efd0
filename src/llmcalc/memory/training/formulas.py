"""Training memory: the leaf formulas of states and of what adapters add."""

from __future__ import annotations

from llmcalc.formula import Quantity, ceil_div, formula


@formula
def model_state_bytes(
    parameters: Quantity, weights: Quantity, master: Quantity, gradients: Quantity, states: Quantity
) -> Quantity:
    """Bytes that trained parameters take with all that goes along with them.

    Parameters
    ----------
    parameters : int or ndarray
        Trained parameters. [-]
    weights, master, gradients, states : int
        Bytes of a parameter in the model, in an fp32 master copy, in its gradient, and in all states of the
        optimizer together. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes. [B]

    Notes
    -----
    An optimizer whose states follow the shape of a tensor has no constant number of bytes a parameter.

    Examples
    --------
    Mixed precision with Adam takes 16 bytes a parameter, 120 GB for 7.5 B parameters:

    >>> model_state_bytes(7_500_000_000, 2, 4, 2, 8)
    120000000000

    References
    ----------
    .. [1] S. Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
       2020, section 3.1 and figure 1.
    """
    return parameters * (weights + master + gradients + states)


@formula
def gradient_bytes(parameters: Quantity, bytes_per_element: Quantity) -> Quantity:
    """Bytes of the gradients of all trained parameters at once.

    Parameters
    ----------
    parameters : int or ndarray
        Trained parameters. [-]
    bytes_per_element : int
        2 in 16 bit, 4 in fp32. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes. [B]

    Notes
    -----
    They grow layer by layer in the backward pass; all are there at the optimizer's step.

    Examples
    --------
    13 B parameters in 16 bit, in GB:

    >>> gradient_bytes(13_000_000_000, 2) / 1e9
    26.0

    References
    ----------
    .. [1] EleutherAI, "Transformer Math 101", 2023, section "Gradients".
    """
    return parameters * bytes_per_element


@formula
def state_bytes(elements: Quantity, bytes_per_element: Quantity) -> Quantity:
    """Bytes of optimizer states that are kept in a plain dtype.

    Parameters
    ----------
    elements : int or ndarray
        Elements of all states together. [-]
    bytes_per_element : int
        2 in 16 bit, 4 in fp32. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes. [B]

    Notes
    -----
    PyTorch's own optimizers keep states in the dtype of the parameters.

    Examples
    --------
    Adam keeps two for each parameter; 13 B parameters in 16 bit, in GB:

    >>> state_bytes(2 * 13_000_000_000, 2) / 1e9
    52.0

    References
    ----------
    .. [1] D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.
    """
    return elements * bytes_per_element


@formula
def blockwise_state_bytes(elements: Quantity, bits: Quantity, block: Quantity) -> Quantity:
    """Bytes of one quantized optimizer state: its elements, and a constant in fp32 for each block.

    Parameters
    ----------
    elements : int or ndarray
        Elements of the state. [-]
    bits : int
        Of one element. [bit]
    block : int
        Elements that share a constant. [-]

    Returns
    -------
    int or ndarray of int64
        Bytes. [B]

    Notes
    -----
    Tensors below a least size are kept in fp32 instead.

    Examples
    --------
    A matrix of 4,096 x 4,096 in 8 bit with blocks of 256 takes 1.016 bytes an element:

    >>> blockwise_state_bytes(4096 * 4096, 8, 256)
    17039360

    References
    ----------
    .. [1] T. Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022, section 2.
    """
    return ceil_div(elements * bits, 8) + 4 * ceil_div(elements, block)


@formula
def lora_parameters(rank: Quantity, inputs: Quantity, outputs: Quantity) -> Quantity:
    """Parameters that a low-rank adapter adds to one linear.

    Parameters
    ----------
    rank : int or ndarray
        Inner width. [-]
    inputs, outputs : int
        Widths of the linear. [-]

    Returns
    -------
    int or ndarray of int64
        Parameters. [-]

    Notes
    -----
    rsLoRA scales the product otherwise and stores the same; DoRA adds a magnitude for each output.

    Examples
    --------
    GPT-3 with rank 1 on the queries and values of its 96 layers:

    >>> 2 * 96 * lora_parameters(1, 12288, 12288)
    4718592

    References
    ----------
    .. [1] E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1 and table 18.
    """
    return rank * (inputs + outputs)


@formula
def bottleneck_parameters(width: Quantity, inner: Quantity) -> Quantity:
    """Parameters of one bottleneck adapter: down and up, each with its bias.

    Parameters
    ----------
    width : int
        Width of the stream that it stands in. [-]
    inner : int or ndarray
        Width of the bottleneck. [-]

    Returns
    -------
    int or ndarray of int64
        Parameters. [-]

    Notes
    -----
    Two for each layer after Houlsby, one after Pfeiffer.

    Examples
    --------
    BERT-large with 64, two for each of 24 layers:

    >>> 2 * 24 * bottleneck_parameters(1024, 64)
    6343680

    References
    ----------
    .. [1] N. Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", 2019, section 2.1: 2md + d + m.
    """
    return 2 * width * inner + width + inner


@formula
def prefix_parameters(
    tokens: Quantity, layers: Quantity, key_width: Quantity, value_width: Quantity
) -> Quantity:
    """Parameters of a trained prefix: a key and a value for each layer and virtual token.

    Parameters
    ----------
    tokens : int or ndarray
        Virtual tokens. [tokens]
    layers : int
        Layers with attention. [-]
    key_width, value_width : int
        Widths of keys and values of one token in one layer. [-]

    Returns
    -------
    int or ndarray of int64
        Parameters. [-]

    Notes
    -----
    Without the projection that the paper trains through, which is thrown away afterwards.

    Examples
    --------
    20 virtual tokens for Llama-2-7B:

    >>> prefix_parameters(20, 32, 4096, 4096)
    5242880

    References
    ----------
    .. [1] X. Li and P. Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", 2021, section 4.
    """
    return tokens * layers * (key_width + value_width)
