"""What is peculiar to the graph of a family, read off llama.cpp's model files (v0.5.0)."""

from __future__ import annotations

from typing import NamedTuple

LAST_LAYER, BEFORE_NORM, AFTER_NORM = "in the last layer", "before the final norm", "after the final norm"
AFTER_POST_NORM = "in the last layer, after the norm that follows attention"
"""Where the positions whose logits are asked for are picked."""


class Traits(NamedTuple):
    """How a family's graph differs from the usual one.

    Attributes
    ----------
    windows : bool
        Whether llama.cpp knows the family's windows; it keeps full caches where it does not.
    picks : str
        Where the positions that are asked for are picked.
    keeps_hidden : bool
        Whether the hidden states before that are a result of their own, for a prediction module.
    softcap, caps_logits, scales_logits, scales_residual, scales_normed, scales_output : bool
        Whether scores and logits are capped by a tanh, and logits, what a layer adds, the final norm's
        result, and attention's output scaled.
    scaled, scales_query : bool
        Whether embeddings are scaled on the way in, and queries after their positions.
    unrotated, nope_full, nope_hybrid : bool
        Whether there are no rotary positions at all, none in full layers beside windowed ones, or none
        where some layers are recurrent.
    unrotated_at : int
        The number of layers with which there are none; 0 for no such size. [layers]
    nope_every : int
        Each how manieth layer has no rotary positions; 0 for none. [layers]
    tempers, norms_rotated, norms_value, norms_whole, norms_added, norms_embedding : bool
        Whether queries without positions are scaled by their place, queries and keys normed after their
        positions, values normed, the norms of queries and keys done before they are split by head, or
        done with weights that the converter adds, and embeddings normed without a weight.
    norm : str
        What all norms are (``norm``, ``rms_norm``), where it does not follow from their having a bias.
    bare : bool
        Whether the norms before each half have no weights.
    clamps : bool
        Whether queries, keys and values are clamped.
    full_heads : bool
        Whether latent attention keeps full heads whatever the file.
    sparse, blocks : bool
        Whether an indexer chooses what latent attention reads, or the blocks that heads do.
    norms_scan : bool
        Whether time step, B and C of a scan are normed without weights.
    bounds_decay : bool
        Whether a delta net's decay is bounded from below.
    skips : bool
        Whether what a layer without a feed-forward computes is dropped.
    deepstack : int
        First layers to which embeddings of images are added. [layers]
    divides_gate : bool
        Whether the shared expert's gate is a silu divided by its argument.
    parallel : tuple of str
        Where attention and feed-forward read the same state: the order in which the results are summed.
    ahead : tuple of str
        Sums (``mixer``, ``ffn``) that name the residual first.
    normed, late_softmax, weigh_first, scales_weights : bool
        Whether the chosen experts' weights sum to one, whether only the chosen enter the softmax,
        whether inputs are weighed, not outputs, and whether the weights are scaled.
    groups : int
        Groups of experts of which some are chosen first; 0 without. [-]
    squares, bounded : bool
        Whether an activation without a gate is squared, and gate and up are bounded by a tanh.
    encodes : bool
        Whether it is an encoder, which keeps nothing.
    full_every : int
        Each how manieth layer of an encoder sees all, from the first; 1 for every one. [layers]
    banks : int
        Each how manieth layer banks its input for later ones; 0 for none. [layers]
    axes : int
        Positions of a token: 4 with multimodal rotary embeddings. [-]
    repeats : bool
        Whether a delta net copies its keys to as many heads as values have, and gated queries are
        brought into shape before they are split.
    """

    windows: bool = False
    picks: str = LAST_LAYER
    keeps_hidden: bool = False
    softcap: bool = False
    caps_logits: bool = False
    scales_logits: bool = False
    scales_residual: bool = False
    scales_normed: bool = False
    scales_output: bool = False
    scaled: bool = False
    scales_query: bool = False
    unrotated: bool = False
    nope_full: bool = False
    nope_hybrid: bool = False
    nope_every: int = 0
    unrotated_at: int = 0
    tempers: bool = False
    norms_rotated: bool = False
    norms_value: bool = False
    norms_whole: bool = False
    norms_added: bool = False
    norms_embedding: bool = False
    norm: str = ""
    bare: bool = False
    clamps: bool = False
    full_heads: bool = False
    sparse: bool = False
    blocks: bool = False
    norms_scan: bool = False
    bounds_decay: bool = False
    skips: bool = False
    deepstack: int = 0
    divides_gate: bool = False
    parallel: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    normed: bool = True
    late_softmax: bool = False
    weigh_first: bool = False
    scales_weights: bool = False
    groups: int = 0
    squares: bool = False
    bounded: bool = False
    banks: int = 0
    encodes: bool = False
    full_every: int = 1
    axes: int = 1
    repeats: bool = False


USUAL = Traits()

GEMMA3 = Traits(windows=True, scaled=True, scales_query=True)
GEMMA3N = Traits(windows=True, picks=BEFORE_NORM, scaled=True, norms_value=True, caps_logits=True)
GEMMA4 = Traits(
    windows=True, picks=AFTER_NORM, keeps_hidden=True, scaled=True, norms_value=True, caps_logits=True
)
GRANITE = Traits(scaled=True, scales_logits=True, scales_residual=True)
LLAMA4 = Traits(windows=True, nope_every=4, tempers=True, norms_rotated=True, weigh_first=True, normed=False)
BLOCKS = Traits(blocks=True, scales_weights=True)
COHERE = Traits(norm="norm", parallel=("ffn", "residual", "mixer"), scales_logits=True)
LFM2 = Traits(ahead=("mixer", "ffn"))
PHI = Traits(scales_query=True, parallel=("mixer", "ffn", "residual"))
PHI3 = Traits(scales_query=True, ahead=("ffn",))
QWEN3_5 = Traits(picks=AFTER_NORM, keeps_hidden=True, axes=4)
EXAONE4 = Traits(windows=True, nope_full=True)
ENCODER = Traits(encodes=True, unrotated=True)
DEEPSEEK3 = Traits(keeps_hidden=True, groups=8, scales_weights=True)
KIMI_K2 = DEEPSEEK3._replace(groups=0)
STEP3 = Traits(windows=True, picks=BEFORE_NORM, keeps_hidden=True, scales_weights=True)
MUSE = Traits(
    windows=True, nope_full=True, picks=AFTER_POST_NORM, norms_embedding=True, norms_added=True,
    scales_logits=True, caps_logits=True,
)  # fmt: skip
ROPE_3D = Traits(axes=4)
QWEN3_VL = Traits(axes=4, deepstack=3)

TRAITS = {
    "afmoe": Traits(windows=True, nope_every=4, picks=AFTER_POST_NORM, scaled=True, scales_weights=True),
    "arcee": Traits(squares=True),
    "baichuan": Traits(unrotated_at=40),
    "bert": ENCODER,
    "bloom": Traits(unrotated=True),
    "cohere": COHERE,
    "cohere2": COHERE._replace(windows=True, nope_full=True),
    "dbrx": Traits(norm="norm", clamps=True),
    "deepseek": Traits(normed=False),
    "deepseek_v2": Traits(normed=False, keeps_hidden=True),
    "deepseek_v3": DEEPSEEK3,
    "deepseek_v32": KIMI_K2._replace(sparse=True, groups=8),
    "distilbert": ENCODER,
    "dots1": Traits(scales_weights=True),
    "exaone4": EXAONE4,
    "exaone4_5": EXAONE4,
    "exaone4_5_text": EXAONE4,
    "exaone_moe": EXAONE4._replace(scales_weights=True),
    "falcon": Traits(parallel=("ffn", "mixer", "residual")),
    "falcon_mamba": Traits(norms_scan=True),
    "gemma": Traits(scaled=True, scales_query=True),
    "gemma2": Traits(windows=True, softcap=True, caps_logits=True, scaled=True, scales_query=True),
    "gemma3": GEMMA3,
    "gemma3_text": GEMMA3,
    "gemma3n_text": GEMMA3N,
    "gemma4": GEMMA4,
    "gemma4_text": GEMMA4,
    "glm4_moe": Traits(keeps_hidden=True),
    "glm4_moe_lite": KIMI_K2,
    "glm4v": ROPE_3D,
    "glm4v_text": ROPE_3D,
    "glm_moe_dsa": KIMI_K2._replace(sparse=True),
    "gpt2": Traits(unrotated=True),
    "gpt3": Traits(unrotated=True),
    "gpt_bigcode": Traits(unrotated=True),
    "gpt_neox": Traits(parallel=("ffn", "residual", "mixer")),
    "gpt_oss": Traits(windows=True, picks=BEFORE_NORM, keeps_hidden=True, late_softmax=True, normed=False),
    "granite": GRANITE,
    "granite_swa": GRANITE._replace(windows=True),
    "granitemoe": GRANITE,
    "granitemoehybrid": GRANITE._replace(nope_hybrid=True),
    "jais2": Traits(squares=True),
    "jamba": Traits(unrotated=True, normed=False, ahead=("mixer", "ffn")),
    "kimi_k2": KIMI_K2,
    "kimi_k25": KIMI_K2,
    "kimi_k3": Traits(unrotated=True, banks=12, bounded=True, bounds_decay=True, picks=BEFORE_NORM),
    "kimi_linear": Traits(unrotated=True, scales_weights=True),
    "laguna": Traits(windows=True, scales_weights=True),
    "lfm2": LFM2,
    "lfm2_moe": LFM2,
    "lfm2_vl": LFM2,
    "llama4": LLAMA4,
    "llama4_text": LLAMA4,
    "mellum": Traits(windows=True),
    "mimo_v2_flash": Traits(windows=True, scales_output=True),
    "minicpm": GRANITE,
    "minicpm3": Traits(full_heads=True, scaled=True, scales_residual=True, scales_normed=True),
    "minimax_m3": BLOCKS,
    "minimax_m3_vl": BLOCKS,
    "minimax_m3_vl_text": BLOCKS,
    "mistral4": KIMI_K2._replace(tempers=True),
    "modernbert": Traits(encodes=True, full_every=3, norm="norm"),
    "mpt": Traits(norm="norm", unrotated=True),
    "muse_glimmer": MUSE,
    "muse_glimmer_text": MUSE,
    "nemotron": Traits(squares=True),
    "nemotron-nas": Traits(skips=True),
    "nemotron_h": Traits(
        picks=AFTER_NORM, keeps_hidden=True, unrotated=True, squares=True, scales_weights=True
    ),
    "nemotron_nas": Traits(skips=True),
    "olmo": Traits(norm="norm", bare=True),
    "olmo2": Traits(norms_whole=True),
    "olmo3": Traits(windows=True, norms_whole=True),
    "olmoe": Traits(norms_whole=True, normed=False),
    "phi": PHI,
    "phi-msft": PHI,
    "phi3": PHI3,
    "phi3_v": PHI3,
    "phimoe": PHI3._replace(norm="rms_norm"),
    "qwen2_5_vl": ROPE_3D,
    "qwen2_5_vl_text": ROPE_3D,
    "qwen2_moe": Traits(normed=False, divides_gate=True),
    "qwen2_vl": ROPE_3D,
    "qwen2_vl_text": ROPE_3D,
    "qwen3_5": QWEN3_5,
    "qwen3_5_moe": QWEN3_5,
    "qwen3_5_moe_text": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
    "qwen3_next": Traits(picks=AFTER_NORM, keeps_hidden=True, repeats=True),
    "qwen3_vl": QWEN3_VL,
    "qwen3_vl_moe": QWEN3_VL,
    "qwen3_vl_moe_text": QWEN3_VL,
    "qwen3_vl_text": QWEN3_VL,
    "roberta": ENCODER,
    "smollm3": Traits(nope_every=4),
    "solar_open": Traits(keeps_hidden=True),
    "step3p5": STEP3,
    "step3p7": STEP3,
    "xlm-roberta": ENCODER,
    "xlm_roberta": ENCODER,
    "youtu": KIMI_K2,
}

HEADERS = {
    "deci": "nemotron_nas", "deepseek2": "deepseek_v3", "deepseek32": "deepseek_v32",
    "exaone-moe": "exaone_moe",
    "gemma3n": "gemma3n_text", "glm-dsa": "glm_moe_dsa", "glm4moe": "glm4_moe", "gpt-oss": "gpt_oss",
    "gptneox": "gpt_neox", "granitehybrid": "granitemoehybrid", "kimi-linear": "kimi_linear",
    "lfm2moe": "lfm2_moe", "mimo2": "mimo_v2_flash", "modern-bert": "modernbert",
    "nemotron_h_moe": "nemotron_h", "phi2": "phi", "qwen2moe": "qwen2_moe", "qwen2vl": "qwen2_vl",
    "qwen35": "qwen3_5", "qwen35moe": "qwen3_5_moe", "qwen3next": "qwen3_next", "qwen3vl": "qwen3_vl",
    "qwen3vlmoe": "qwen3_vl_moe", "starcoder": "gpt_bigcode", "step35": "step3p5",
}  # fmt: skip
"""Families by llama.cpp's own names, as the header of a file gives them, where they differ."""

ABSENT = frozenset(
    (
        "albert",
        "bart",
        "clip",
        "clip_text_model",
        "deberta_v2",
        "dia",
        "siglip",
        "siglip_text_model",
        "whisper",
    )
)
"""Families that llama.cpp v0.5.0 has no architecture for."""

UNREAD = frozenset(
    (
        "axk1", "bailing_hybrid", "deepseek_ref", "deepseek_v4", "deepseek_vl_v2",
        "ernie4_5_vl_moe", "ernie4_5_vl_moe_text", "flex_olmo", "fuyu", "gpt_neo", "gptj", "helium",
        "internlm", "kolibri1", "kosmos_2_5", "lfm3", "longcat_flash", "minimax", "mllama",
        "mllama_text_model", "nanochat", "olmo_hybrid", "opt", "persimmon", "phi3small", "rwkv",
        "rwkv5", "t5", "vaultgemma", "zamba", "zamba2",
    )
)  # fmt: skip
"""Families whose graphs are not written here, or that llama.cpp may not know: expect larger errors."""


def traits_of(family: str, corrects: bool = True) -> Traits:
    """What is peculiar to a family's graph.

    Parameters
    ----------
    family : str
        A `model_type`, or llama.cpp's architecture in the header of a file.
    corrects : bool
        Whether a bias corrects its routers: both DeepSeek 2 and 3 are ``deepseek2`` in a header.
    """
    name = "deepseek_v2" if family == "deepseek2" and not corrects else HEADERS.get(family, family)
    return TRAITS.get(name, USUAL)
