"""How publications count the operations of training, by name: the leaf formulas.

A published MFU means little without its convention: attention may be counted over all pairs of positions or
over half of them or not at all, parameters with or without embeddings, and recomputation in or out.
`llmcalc.compute.counting` calls these for a model.
"""

from __future__ import annotations

from llmcalc.formula import Quantity, formula


@formula
def training_flops(parameters: Quantity, tokens: Quantity) -> Quantity:
    """Operations of training by the rule of thumb: six for each parameter and token.

    Parameters
    ----------
    parameters : int, float or ndarray
        Parameters; of a mixture of experts those that one token uses. [-]
    tokens : int, float or ndarray
        Tokens of the whole run. [tokens]

    Returns
    -------
    float or ndarray
        Operations. [FLOP]

    Notes
    -----
    Two in the forward pass, four in the backward pass. Attention is left out: some percent at short
    sequences, more than half at very long ones. Of an encoder-decoder each token passes one of both stacks,
    so this counts about twice of it.

    Examples
    --------
    GPT-3, 174.6 B parameters and 300 B tokens: 3.14e23.

    >>> f"{training_flops(174.6e9, 300e9):.2e}"
    '3.14e+23'

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, section 2.1.
    .. [2] T. Brown et al., "Language Models are Few-Shot Learners", 2020, table D.1.
    """
    return 6.0 * parameters * tokens


@formula
def forward_flops(parameters: Quantity, tokens: Quantity) -> Quantity:
    """Operations of inference by the rule of thumb: two for each parameter and token.

    Parameters
    ----------
    parameters, tokens : int, float or ndarray
        Parameters that one token uses, and tokens. [-], [tokens]

    Returns
    -------
    float or ndarray
        Operations. [FLOP]

    Examples
    --------
    >>> forward_flops(7e9, 1)
    14000000000.0

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, section 2.1.
    """
    return 2.0 * parameters * tokens


@formula
def palm_flops(
    parameters: Quantity, layers: Quantity, attention_width: Quantity, sequence: Quantity
) -> Quantity:
    """Operations of training one token as PaLM counts them: all parameters, attention over all pairs.

    Parameters
    ----------
    parameters : int or ndarray
        All parameters, embeddings too. [-]
    layers, attention_width : int or ndarray
        Layers with attention, and width of all its heads together. [-], [elements]
    sequence : int or ndarray
        Tokens of a sequence. [tokens]

    Returns
    -------
    int or ndarray
        Operations of one token, recomputation left out. [FLOP]

    Examples
    --------
    PaLM 540B (118 layers, 48 heads of 256): 238,300 tokens/s on 6,144 TPU v4 of 275 TFLOP/s are the 46.2 %
    it reports; without attention 45.7 %.

    >>> peak = 6144 * 275e12
    >>> [round(238_300 * palm_flops(540.35e9, layers, 48 * 256, 2048) / peak, 3) for layers in (118, 0)]
    [0.462, 0.457]

    References
    ----------
    .. [1] A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022, appendix B.
    """
    return 6 * parameters + 12 * layers * attention_width * sequence


@formula
def kaplan_flops(
    parameters: Quantity, layers: Quantity, attention_width: Quantity, sequence: Quantity
) -> Quantity:
    """Operations of training one token as Kaplan et al. count them, their attention term included.

    Parameters
    ----------
    parameters : int or ndarray
        Parameters without embeddings and positions. [-]
    layers, attention_width : int or ndarray
        Layers with attention, and width of all its heads together. [-], [elements]
    sequence : int or ndarray
        Tokens of a sequence. [tokens]

    Returns
    -------
    int or ndarray
        Operations of one token. [FLOP]

    Notes
    -----
    The paper then drops the attention term, so that C = 6 N D with N without embeddings. Its attention term
    is half of all pairs. The product with the vocabulary is left out.

    Examples
    --------
    GPT-2 small, 12 layers of width 768, without embeddings and over 1,024 tokens:

    >>> kaplan_flops(12 * 12 * 768**2, 12, 768, 1024) / 1e6
    566.23104

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, equation 2.2 and table 1.
    """
    return 6 * parameters + 6 * layers * attention_width * sequence


@formula
def narayanan_flops(
    batch: Quantity, sequence: Quantity, layers: Quantity, hidden: Quantity, vocabulary: Quantity
) -> Quantity:
    """Operations of one training step of a GPT with all layers recomputed, as Narayanan et al. count them.

    Parameters
    ----------
    batch, sequence : int or ndarray
        Sequences of a step, and tokens of each. [-], [tokens]
    layers, hidden, vocabulary : int or ndarray
        Layers, width, and tokens of the vocabulary. [-], [elements], [-]

    Returns
    -------
    float or ndarray
        Operations as executed: the forward pass counts twice. [FLOP]

    Notes
    -----
    For a feed-forward layer of four times the width without a gate, and as many key heads as query heads.
    Attention over all pairs.

    Examples
    --------
    MT-NLG 530B (105 layers of 20,480), 1,920 sequences of 2,048 in 60.1 s on 2,240 GPUs: 126 TFLOP/s each.

    >>> round(narayanan_flops(1920, 2048, 105, 20480, 51200) / 60.1 / 2240 / 1e12, 1)
    125.7

    References
    ----------
    .. [1] D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
       Megatron-LM", 2021, equation 3.
    """
    return (
        96.0 * batch * sequence * layers * hidden * hidden
        * (1 + sequence / (6 * hidden) + vocabulary / (16 * layers * hidden))
    )  # fmt: skip


@formula
def korthikanti_flops(
    batch: Quantity, sequence: Quantity, layers: Quantity, hidden: Quantity, vocabulary: Quantity
) -> Quantity:
    """Operations of one training step of a GPT, recomputation left out, as Korthikanti et al. count them.

    Parameters
    ----------
    batch, sequence : int or ndarray
        Sequences of a step, and tokens of each. [-], [tokens]
    layers, hidden, vocabulary : int or ndarray
        Layers, width, and tokens of the vocabulary. [-], [elements], [-]

    Returns
    -------
    float or ndarray
        Operations of forward and backward pass. [FLOP]

    Notes
    -----
    For a feed-forward layer of four times the width without a gate, and as many key heads as query heads.
    Attention over all pairs.

    Examples
    --------
    The model of one trillion parameters (128 layers of 25,600): 512 sequences of 2,048 in 71.49 s on 512
    A100 of 312 TFLOP/s are its 56.3 %.

    >>> round(korthikanti_flops(512, 2048, 128, 25600, 51200) / 71.49 / 512 / 312e12, 3)
    0.563

    References
    ----------
    .. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022,
       appendix A, equation 7; table 5.
    """
    return (
        72.0 * batch * sequence * layers * hidden * hidden
        * (1 + sequence / (6 * hidden) + vocabulary / (12 * layers * hidden))
    )  # fmt: skip


@formula
def foundry_flops(
    parameters: Quantity, layers: Quantity, hidden: Quantity, sequence: Quantity, passes: Quantity
) -> Quantity:
    """Operations of training one token as llm-foundry counts them: all parameters, attention over all pairs.

    Parameters
    ----------
    parameters : int or ndarray
        All parameters, learned positions too. [-]
    layers, hidden : int or ndarray
        Layers and width. [-], [elements]
    sequence : int or ndarray
        Tokens of a sequence. [tokens]
    passes : int
        3 for the operations of the model (MFU); 4 where layers are recomputed (HFU). [-]

    Returns
    -------
    int or ndarray
        Operations of one token. [FLOP]

    Examples
    --------
    MPT-7B (6.66 B parameters, 32 layers of 4,096) with sequences of 2,048:

    >>> foundry_flops(6_658_859_008, 32, 4096, 2048, 3) / 1e9
    43.17437952

    References
    ----------
    .. [1] MosaicML, llm-foundry, scripts/train/benchmarking/collect_results.py and README.md, 2023.
    """
    return 2 * passes * parameters + 4 * passes * layers * hidden * sequence


@formula
def torchtitan_flops(
    parameters: Quantity, embedding: Quantity, layers: Quantity, attention_width: Quantity, sequence: Quantity
) -> Quantity:
    """Operations of training one token as torchtitan counts them: no embedding, attention over all pairs.

    Parameters
    ----------
    parameters, embedding : int or ndarray
        All parameters (of experts the active ones), and those of the embedding. [-]
    layers, attention_width : int or ndarray
        Layers with attention, and width of all its heads together. [-], [elements]
    sequence : int or ndarray
        Tokens of a sequence. [tokens]

    Returns
    -------
    int or ndarray
        Operations of one token. [FLOP]

    Notes
    -----
    Where embedding and head are tied, the head goes with the embedding and is not counted.

    Examples
    --------
    Llama-3.1-8B with sequences of 8,192:

    >>> torchtitan_flops(8_030_261_248, 525_336_576, 32, 4096, 8192) / 1e9
    57.91444992

    References
    ----------
    .. [1] PyTorch, torchtitan, models/llama3: get_nparams_and_flops, 2025.
    """
    return 6 * (parameters - embedding) + 12 * layers * attention_width * sequence


@formula
def hoffmann_layer_flops(
    sequence: Quantity, hidden: Quantity, attention_width: Quantity, heads: Quantity, ffn: Quantity
) -> Quantity:
    """Operations of one layer and one forward pass as Hoffmann et al. count them, softmax included.

    Parameters
    ----------
    sequence : int or ndarray
        Tokens of a sequence. [tokens]
    hidden, attention_width, heads, ffn : int or ndarray
        Width, width of all heads together, heads, and width of the feed-forward layer. [elements], [-]

    Returns
    -------
    int or ndarray
        Operations of one sequence. [FLOP]

    Notes
    -----
    Attention over all pairs; a feed-forward layer without a gate.

    Examples
    --------
    Table A4 has exact operations over 6ND, embedding and head left out; of the model of 552 M parameters
    (24 layers of 1,280, 10 heads of 128) 1.08. D is a sequence of 2,048; N counts the head, and the matrix
    of relative positions of each layer.

    >>> exact = 3 * 24 * hoffmann_layer_flops(2048, 1280, 1280, 10, 5120)
    >>> n = 24 * (5 * 1280**2 + 2 * 1280 * 5120) + 32000 * 1280
    >>> round(exact / (6 * n * 2048), 2)
    1.08

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, appendix F and
       table A4.
    """
    return (
        6 * sequence * hidden * attention_width
        + 4 * sequence * sequence * attention_width
        + 3 * heads * sequence * sequence
        + 2 * sequence * attention_width * hidden
        + 4 * sequence * hidden * ffn
    )


@formula
def hoffmann_vocabulary_flops(sequence: Quantity, hidden: Quantity, vocabulary: Quantity) -> Quantity:
    """Operations of embedding and head in one forward pass as Hoffmann et al. count them.

    Parameters
    ----------
    sequence, hidden, vocabulary : int or ndarray
        Tokens of a sequence, width, and tokens of the vocabulary. [tokens], [elements], [-]

    Returns
    -------
    int or ndarray
        Operations of one sequence: the embedding as a matrix product, and the logits. [FLOP]

    Notes
    -----
    A look-up executes nothing, so the embedding's half is a matter of convention; table A4 has neither.

    Examples
    --------
    >>> hoffmann_vocabulary_flops(2048, 1536, 32000) == 2 * 2 * 2048 * 1536 * 32000
    True

    References
    ----------
    .. [1] J. Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, appendix F.
    """
    return 4 * sequence * hidden * vocabulary


@formula
def utilization(flops: Quantity, seconds: Quantity, gpus: Quantity, peak: Quantity) -> Quantity:
    """Share of the peak that is used: operations over what the GPUs could do in that time.

    Parameters
    ----------
    flops : float or ndarray
        Operations. Those of the model give MFU, those executed (recomputation too) HFU. [FLOP]
    seconds, gpus : float or ndarray
        Time, and GPUs. [s], [-]
    peak : float
        Dense peak of one GPU. [FLOP/s]

    Returns
    -------
    float or ndarray
        Utilization. [-]

    Examples
    --------
    MPT-70B on H100: 1,007 tokens/s on each GPU, 6N + 12Ld^2-attention of 405.1 GFLOP a token: 41.2 %.

    >>> round(utilization(1007 * foundry_flops(64_862_437_376, 80, 8192, 2048, 3), 1, 1, 989.5e12), 4)
    0.4124

    References
    ----------
    .. [1] A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022, section 4.1.
    """
    return flops / (seconds * gpus * peak)
