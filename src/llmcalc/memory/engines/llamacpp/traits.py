"""What is peculiar to the graph of a family, read off llama.cpp's model files (v0.5.0)."""

from __future__ import annotations

from typing import NamedTuple

LAST_LAYER, BEFORE_NORM, AFTER_NORM = "in the last layer", "before the final norm", "after the final norm"
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
    softcap, caps_logits, scales_logits, scales_residual : bool
        Whether scores and logits are capped by a tanh, logits scaled, and what a layer adds scaled.
    scaled, scales_query : bool
        Whether embeddings are scaled on the way in, and queries after their positions.
    unrotated, nope_full : bool
        Whether there are no rotary positions at all, or none in full layers beside windowed ones.
    nope_every : int
        Each how manieth layer has no rotary positions; 0 for none. [layers]
    tempers, norms_rotated, norms_value, norms_whole : bool
        Whether queries without positions are scaled by their place, queries and keys normed after their
        positions, values normed, and the norms of queries and keys done before they are split by head.
    centred : bool
        Whether norms subtract the mean though they have no bias.
    parallel : tuple of str
        Where attention and feed-forward read the same state: the order in which the results are summed.
    ahead : tuple of str
        Sums (``mixer``, ``ffn``) that name the residual first.
    normed, late_softmax, weigh_first, scales_weights : bool
        Whether the chosen experts' weights sum to one, whether only the chosen enter the softmax,
        whether inputs are weighed, not outputs, and whether the weights are scaled.
    groups : int
        Groups of experts of which some are chosen first; 0 without. [-]
    squares : bool
        Whether an activation without a gate is squared.
    encodes : bool
        Whether it is an encoder, which keeps nothing.
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
    scaled: bool = False
    scales_query: bool = False
    unrotated: bool = False
    nope_full: bool = False
    nope_every: int = 0
    tempers: bool = False
    norms_rotated: bool = False
    norms_value: bool = False
    norms_whole: bool = False
    centred: bool = False
    parallel: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    normed: bool = True
    late_softmax: bool = False
    weigh_first: bool = False
    scales_weights: bool = False
    groups: int = 0
    squares: bool = False
    encodes: bool = False
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
QWEN3_5 = Traits(picks=AFTER_NORM, keeps_hidden=True, axes=4)
EXAONE4 = Traits(windows=True, nope_full=True)

ENCODER = Traits(encodes=True, unrotated=True)

TRAITS = {
    "bert": ENCODER,
    "roberta": ENCODER,
    "xlm_roberta": ENCODER,
    "cohere2": Traits(
        windows=True, nope_full=True, centred=True, parallel=("ffn", "residual", "mixer"), scales_logits=True
    ),
    "deepseek_v2": Traits(normed=False, keeps_hidden=True),
    "deepseek_v3": Traits(keeps_hidden=True, groups=8),
    "exaone4": EXAONE4,
    "exaone4_5_text": EXAONE4,
    "gemma": Traits(scaled=True, scales_query=True),
    "gemma2": Traits(windows=True, softcap=True, caps_logits=True, scaled=True, scales_query=True),
    "gemma3": GEMMA3,
    "gemma3_text": GEMMA3,
    "gemma3n_text": GEMMA3N,
    "gemma4": GEMMA4,
    "gemma4_text": GEMMA4,
    "glm4_moe": Traits(keeps_hidden=True),
    "gpt2": Traits(unrotated=True),
    "gpt_oss": Traits(windows=True, picks=BEFORE_NORM, keeps_hidden=True, late_softmax=True, normed=False),
    "granite": GRANITE,
    "granitemoe": GRANITE,
    "granitemoehybrid": GRANITE._replace(unrotated=True),
    "jamba": Traits(unrotated=True, normed=False, ahead=("mixer", "ffn")),
    "kimi_linear": Traits(unrotated=True, scales_weights=True),
    "lfm2": Traits(ahead=("mixer", "ffn")),
    "lfm2_moe": Traits(ahead=("mixer", "ffn")),
    "llama4": LLAMA4,
    "llama4_text": LLAMA4,
    "nemotron_h": Traits(
        picks=AFTER_NORM, keeps_hidden=True, unrotated=True, squares=True, scales_weights=True
    ),
    "olmo2": Traits(norms_whole=True),
    "olmo3": Traits(windows=True, norms_whole=True),
    "phi": Traits(scales_query=True, parallel=("mixer", "ffn", "residual")),
    "phi3": Traits(scales_query=True, ahead=("ffn",)),
    "qwen3_5": QWEN3_5,
    "qwen3_5_moe": QWEN3_5,
    "qwen3_5_moe_text": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
    "qwen3_next": Traits(picks=AFTER_NORM, keeps_hidden=True, repeats=True),
    "smollm3": Traits(nope_every=4),
}


def traits_of(family: str) -> Traits:
    """What is peculiar to a family's graph."""
    return TRAITS.get(family, USUAL)
