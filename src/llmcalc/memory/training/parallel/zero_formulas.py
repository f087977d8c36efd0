"""ZeRO in closed formulas: the paper's, and those of DeepSpeed's own estimator. They count states alone."""

from __future__ import annotations

from llmcalc.formula import Quantity, formula


@formula
def zero_one_bytes(parameters: Quantity, ranks: Quantity) -> Quantity:
    """Bytes of states on each GPU where the optimizer's are shared (stage 1).

    Parameters
    ----------
    parameters : int or ndarray
        Trained parameters. [-]
    ranks : int or ndarray
        GPUs that share them. [-]

    Returns
    -------
    float or ndarray
        Bytes. [B]

    Notes
    -----
    16-bit weights and gradients; fp32 weights, momentum and variance make the 12 that are shared.

    Examples
    --------
    7.5 B parameters on 64 GPUs, in GB; on one it is 120:

    >>> round(zero_one_bytes(7_500_000_000, 64) / 1e9, 1)
    31.4
    >>> zero_one_bytes(7_500_000_000, 1) / 1e9
    120.0

    References
    ----------
    .. [1] S. Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
       2020, figure 1.
    """
    return parameters * (4 + 12 / ranks)


@formula
def zero_two_bytes(parameters: Quantity, ranks: Quantity) -> Quantity:
    """Bytes of states on each GPU where gradients are shared too (stage 2).

    Parameters
    ----------
    parameters : int or ndarray
        Trained parameters. [-]
    ranks : int or ndarray
        GPUs that share them. [-]

    Returns
    -------
    float or ndarray
        Bytes. [B]

    Notes
    -----
    Buckets in which gradients are summed come on top.

    Examples
    --------
    7.5 B parameters on 64 GPUs, in GB:

    >>> round(zero_two_bytes(7_500_000_000, 64) / 1e9, 1)
    16.6

    References
    ----------
    .. [1] S. Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
       2020, figure 1.
    """
    return parameters * (2 + 14 / ranks)


@formula
def zero_three_bytes(parameters: Quantity, ranks: Quantity) -> Quantity:
    """Bytes of states on each GPU where weights are shared as well (stage 3).

    Parameters
    ----------
    parameters : int or ndarray
        Trained parameters. [-]
    ranks : int or ndarray
        GPUs that share them. [-]

    Returns
    -------
    float or ndarray
        Bytes. [B]

    Notes
    -----
    Weights that are whole while they are used come on top.

    Examples
    --------
    7.5 B parameters on 64 GPUs, in GB:

    >>> round(zero_three_bytes(7_500_000_000, 64) / 1e9, 1)
    1.9

    References
    ----------
    .. [1] S. Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
       2020, figure 1.
    """
    return parameters * (16 / ranks)


@formula
def zero_two_estimate_bytes(parameters: Quantity, ranks: Quantity) -> Quantity:
    """DeepSpeed's own estimate of stage 2, as its documentation gives it.

    Parameters
    ----------
    parameters : int or ndarray
        Parameters. [-]
    ranks : int or ndarray
        GPUs. [-]

    Returns
    -------
    float or ndarray
        Bytes on each GPU. [B]

    Notes
    -----
    Gradients are counted whole on every GPU. With the optimizer on the host 2 bytes a parameter are left.
    What it prints as GB are GiB. The code of release 0.19 has 2 + 18 / N instead.

    Examples
    --------
    T5-3B (2,851 M parameters) on 8 GPUs; then with the optimizer on the host:

    >>> round(zero_two_estimate_bytes(2_851_000_000, 8) / 2**30, 2)
    15.93
    >>> round(2 * 2_851_000_000 / 2**30, 2)
    5.31

    References
    ----------
    .. [1] DeepSpeed, docs/code-docs/source/memory.rst.
    """
    return parameters * (4 + 16 / ranks)


@formula
def zero_three_estimate_bytes(
    parameters: Quantity, largest_layer: Quantity, ranks: Quantity, shared: Quantity
) -> Quantity:
    """DeepSpeed's own estimate of stage 3.

    Parameters
    ----------
    parameters, largest_layer : int or ndarray
        Parameters of the model, and of its largest layer. [-]
    ranks : int or ndarray
        GPUs. [-]
    shared : int
        Bytes of a parameter that the GPUs share: 18; 2 with the optimizer on the host; 0 with the weights
        there too. [B]

    Returns
    -------
    float or ndarray
        Bytes on each GPU. [B]

    Notes
    -----
    One layer is whole, with weights and gradients in 16 bit. What it prints as GB are GiB.

    Examples
    --------
    T5-3B with a layer of 32 M parameters on 8 GPUs: all there, the optimizer on the host, all on the host:

    >>> [round(zero_three_estimate_bytes(2_851_000_000, 32_000_000, 8, n) / 2**30, 2) for n in (18, 2, 0)]
    [6.09, 0.78, 0.12]

    References
    ----------
    .. [1] DeepSpeed, docs/code-docs/source/memory.rst.
    """
    return 4 * largest_layer + shared * parameters / ranks
