"""Inference memory: the leaf formulas.

Each is one equation that takes numbers or numpy arrays. `llmcalc.memory.folds` calls them over an
inventory.
"""

from __future__ import annotations

from llmcalc.formula import Quantity, ceil_div, formula, smaller


@formula
def rule_of_thumb(parameters: Quantity, bytes_per_parameter: Quantity, overhead: Quantity = 1.2) -> Quantity:
    """Bytes to serve a model of which only the size is known: weights and a fifth on top.

    Parameters
    ----------
    parameters : int or float or ndarray
        Parameters. [-]
    bytes_per_parameter : int or float or ndarray
        2 for 16 bit, 0.5 for 4 bit. [B]
    overhead : float
        Factor for KV cache, activations and runtime. [-]

    Returns
    -------
    int or float or ndarray
        Bytes. [B]

    Notes
    -----
    A planning figure for short contexts. The KV cache of a long context is not proportional to the
    parameters: name the model for an exact figure.

    Examples
    --------
    13 B parameters at 16 and at 4 bits, in GB:

    >>> rule_of_thumb(13e9, 2) / 1e9, rule_of_thumb(13e9, 0.5) / 1e9
    (31.2, 7.8)

    References
    ----------
    .. [1] EleutherAI, "Transformer Math 101", 2023, section "Total Inference Memory": 1.2 x model memory.
    """
    return parameters * bytes_per_parameter * overhead


@formula
def overhead_bytes(weights: Quantity, numerator: Quantity, denominator: Quantity) -> Quantity:
    """Bytes that the rule of thumb adds to the weights, in whole numbers.

    Parameters
    ----------
    weights : int or ndarray
        Bytes of the weights. [B]
    numerator, denominator : int
        The factor as a ratio: 6 and 5 for 1.2. [-]

    Returns
    -------
    int or ndarray of int64
        Bytes, rounded up. [B]

    Examples
    --------
    A fifth of 13 B parameters at 4 bits:

    >>> overhead_bytes(6_500_000_000, 6, 5)
    1300000000

    References
    ----------
    .. [1] EleutherAI, "Transformer Math 101", 2023, section "Total Inference Memory".
    """
    return ceil_div(weights * (numerator - denominator), denominator)


@formula
def weight_bytes(parameters: Quantity, bits: Quantity) -> Quantity:
    """Bytes of parameters stored in `bits` bits each, rounded up.

    Parameters
    ----------
    parameters : int or ndarray
        Parameters. [-]
    bits : int or Fraction
        Bits of one parameter. [bit]

    Returns
    -------
    int or ndarray of int64
        Bytes. [B]

    Notes
    -----
    Exact for plain dtypes, and for packed elements whose scales are counted apart. Bits of a block format
    (GGUF types) include its scales.

    Examples
    --------
    7 B parameters in fp16 are 14 GB, 70 B are 140 GB:

    >>> weight_bytes(7_000_000_000, 16), weight_bytes(70_000_000_000, 16)
    (14000000000, 140000000000)

    References
    ----------
    .. [1] EleutherAI, "Transformer Math 101", 2023, section "Model Weights".
    """
    return ceil_div(parameters * bits, 8)


@formula
def kv_cache_bytes(
    layers: Quantity,
    kv_heads: Quantity,
    head_dim: Quantity,
    tokens: Quantity,
    sequences: Quantity,
    bytes_per_element: Quantity,
) -> Quantity:
    """Bytes that the keys and values of full attention take.

    Parameters
    ----------
    layers : int
        Layers that keep a cache of full length. [-]
    kv_heads : int
        Key-value heads of one layer, not query heads. [-]
    head_dim : int
        Width of one head. [elements]
    tokens, sequences : int or ndarray
        Tokens of one sequence, and sequences held at once. [-]
    bytes_per_element : int or Fraction
        2 for bf16 and fp16, 1 for fp8. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences, keys and values together. [B]

    Notes
    -----
    Multi-head, grouped-query and multi-query attention without a window; for a latent cache see
    `mla_cache_bytes`, for a window `window_cache_bytes`.

    Examples
    --------
    Llama-3.1-8B (32 layers, 8 KV heads of 128), 8,192 tokens in 16 bit, is 1 GiB:

    >>> kv_cache_bytes(32, 8, 128, 8192, 1, 2)
    1073741824

    References
    ----------
    .. [1] J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from
       Multi-Head Checkpoints", 2023, section 2.2.
    """
    return 2 * layers * kv_heads * head_dim * bytes_per_element * sequences * tokens


@formula
def window_cache_bytes(
    layers: Quantity,
    kv_heads: Quantity,
    head_dim: Quantity,
    tokens: Quantity,
    window: Quantity,
    sequences: Quantity,
    bytes_per_element: Quantity,
) -> Quantity:
    """Bytes that the keys and values of sliding-window or chunked attention take at least.

    Parameters
    ----------
    layers, kv_heads, head_dim : int
        As in `kv_cache_bytes`. [-], [-], [elements]
    tokens, sequences : int or ndarray
        Tokens of one sequence, and sequences held at once. [-]
    window : int
        Positions that attention looks at. [tokens]
    bytes_per_element : int or Fraction
        Bytes of one element. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences, keys and values together. [B]

    Notes
    -----
    What the architecture needs. Engines keep more: whole pages, tokens in flight, or all positions.

    Examples
    --------
    The 52 window layers of Gemma-3-27B (16 KV heads of 128, window 1,024) at 128k tokens are 416 MiB:

    >>> window_cache_bytes(52, 16, 128, 131_072, 1024, 1, 2) / 2**20
    416.0

    References
    ----------
    .. [1] I. Beltagy et al., "Longformer: The Long-Document Transformer", 2020, section 3.1.
    .. [2] Gemma Team, "Gemma 3 Technical Report", 2025, section 2.
    """
    return 2 * layers * kv_heads * head_dim * bytes_per_element * sequences * smaller(tokens, window)


@formula
def mla_cache_bytes(
    layers: Quantity,
    kv_lora_rank: Quantity,
    qk_rope_head_dim: Quantity,
    tokens: Quantity,
    sequences: Quantity,
    bytes_per_element: Quantity,
) -> Quantity:
    """Bytes that the compressed cache of multi-head latent attention takes.

    Parameters
    ----------
    layers : int
        Layers. [-]
    kv_lora_rank : int
        Width of the latent, one for all heads. [elements]
    qk_rope_head_dim : int
        Width of the rotary key, one for all heads. [elements]
    tokens, sequences : int or ndarray
        Tokens of one sequence, and sequences held at once. [-]
    bytes_per_element : int or Fraction
        Bytes of one element. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Notes
    -----
    Some old engines expand keys and values per head instead; that is their layout, not a need.

    Examples
    --------
    DeepSeek-V3 (61 layers, 512 + 64), 32,768 tokens in 16 bit, in GiB:

    >>> round(mla_cache_bytes(61, 512, 64, 32_768, 1, 2) / 2**30, 4)
    2.1445

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language
       Model", 2024, section 2.1.2 and Table 1.
    """
    return layers * (kv_lora_rank + qk_rope_head_dim) * bytes_per_element * sequences * tokens


@formula
def cache_rows_bytes(
    layers: Quantity, row_bytes: Quantity, positions: Quantity, sequences: Quantity
) -> Quantity:
    """Bytes of caches given the bytes of one position: keys and values of unlike width or format.

    Parameters
    ----------
    layers : int
        Layers. [-]
    row_bytes : int
        Bytes that one layer keeps at one position, blocks rounded up. [B]
    positions, sequences : int or ndarray
        Positions kept for one sequence, and sequences held at once. [-]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Examples
    --------
    A q8_0 row of 1,024 elements is 32 blocks of 34 bytes; keys and values of 32 layers, 8,192 tokens:

    >>> cache_rows_bytes(32, 2 * 32 * 34, 8192, 1) / 2**30
    0.53125

    References
    ----------
    .. [1] ggml, `ggml-common.h`, block layouts.
    """
    return layers * row_bytes * sequences * positions


@formula
def residual_cache_bytes(
    layers: Quantity, row_bytes: Quantity, recent_bytes: Quantity, tokens: Quantity, recent: Quantity,
    sequences: Quantity,
) -> Quantity:  # fmt: skip
    """Bytes of caches that quantize all but the newest tokens.

    Parameters
    ----------
    layers : int
        Layers. [-]
    row_bytes, recent_bytes : int
        Bytes that one layer keeps at a quantized position, and at one of the newest. [B]
    tokens, sequences : int or ndarray
        Tokens of one sequence, and sequences held at once. [-]
    recent : int
        The newest tokens, which are not quantized, at most. [tokens]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Examples
    --------
    KIVI at 2 bits, Llama-2-7B (32 layers, 32 heads of 128), 4,096 tokens, of which 128 stay in 16 bit;
    2,048 MiB unquantized:

    >>> residual_cache_bytes(32, 2 * 4096 * 12 // 32, 2 * 4096 * 2, 4096, 128, 1) / 2**20
    436.0

    References
    ----------
    .. [1] Z. Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", 2024, section 3.
    """
    return layers * sequences * (row_bytes * tokens + (recent_bytes - row_bytes) * smaller(tokens, recent))


@formula
def recurrent_state_bytes(
    layers: Quantity, state_elements: Quantity, sequences: Quantity, bytes_per_element: Quantity
) -> Quantity:
    """Bytes of recurrent states, whatever the context.

    Parameters
    ----------
    layers : int
        Layers with a state. [-]
    state_elements : int
        Elements of one layer's state: value heads x key width x value width for a delta net,
        heads x head width x state size for Mamba-2. [elements]
    sequences : int or ndarray
        Sequences held at once. [-]
    bytes_per_element : int
        4: recurrences are kept in fp32 unless the configuration says otherwise. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Examples
    --------
    Qwen3-Next-80B: 36 layers of 32 heads of 128 x 128 in fp32 are 72 MiB:

    >>> recurrent_state_bytes(36, 32 * 128 * 128, 1, 4) / 2**20
    72.0

    References
    ----------
    .. [1] S. Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta Rule", 2024, section 3.
    .. [2] T. Dao and A. Gu, "Transformers are SSMs", 2024, section 7.
    """
    return layers * state_elements * sequences * bytes_per_element


@formula
def conv_state_bytes(
    layers: Quantity, channels: Quantity, kernel: Quantity, sequences: Quantity, bytes_per_element: Quantity
) -> Quantity:
    """Bytes of the columns that a causal convolution remembers: one less than its kernel.

    Parameters
    ----------
    layers : int
        Layers with a convolution. [-]
    channels : int
        Its channels. [elements]
    kernel : int
        Its width in tokens. [tokens]
    sequences : int or ndarray
        Sequences held at once. [-]
    bytes_per_element : int or Fraction
        Bytes of one element, in the model's dtype. [B]

    Returns
    -------
    int or ndarray of int64
        Bytes over all sequences. [B]

    Examples
    --------
    Qwen3-Next-80B: 36 layers of 8,192 channels, kernel 4, in 16 bit, in MiB:

    >>> conv_state_bytes(36, 8192, 4, 1, 2) / 2**20
    1.6875

    References
    ----------
    .. [1] A. Gu and T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023,
       section 3.4.
    """
    return layers * channels * (kernel - 1) * sequences * bytes_per_element
