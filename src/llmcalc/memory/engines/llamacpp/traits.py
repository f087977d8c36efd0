"""What is peculiar to the graph of a family, read off llama.cpp's model files (v0.5.0)."""

from __future__ import annotations

LAST_LAYER, BEFORE_NORM, AFTER_NORM = "in the last layer", "before the final norm", "after the final norm"
"""Where the positions whose logits are asked for are picked."""


class Traits:
    """How a family's graph differs from the usual one.

    Attributes
    ----------
    windows : bool
        Whether llama.cpp knows the family's windows; it keeps full caches where it does not.
    picks : str
        Where the positions that are asked for are picked.
    keeps_hidden : bool
        Whether the hidden states before that are a result of their own, for a prediction module.
    softcap, scaled, scales_query, unrotated : bool
        Whether scores are capped by a tanh, embeddings scaled on the way in, queries scaled after their
        positions, and whether there are no rotary positions.
    normed, late_softmax, weigh_first : bool
        Whether the chosen experts' weights sum to one, whether only the chosen enter the softmax, and
        whether inputs are weighed, not outputs.
    groups : int
        Groups of experts of which some are chosen first; 0 without. [-]
    axes : int
        Positions of a token: 4 with multimodal rotary embeddings. [-]
    repeats : bool
        Whether a delta net copies its keys to as many heads as values have.
    """

    __slots__ = (
        "axes", "groups", "keeps_hidden", "late_softmax", "normed", "picks", "repeats", "scaled",
        "scales_query", "softcap", "unrotated", "weigh_first", "windows",
    )  # fmt: skip

    def __init__(
        self, *, windows: bool = False, picks: str = LAST_LAYER, keeps_hidden: bool = False,
        softcap: bool = False, scaled: bool = False, scales_query: bool = False, unrotated: bool = False,
        normed: bool = True, late_softmax: bool = False, weigh_first: bool = False, groups: int = 0,
        axes: int = 1, repeats: bool = False,
    ) -> None:  # fmt: skip
        self.windows, self.picks, self.keeps_hidden = windows, picks, keeps_hidden
        self.softcap, self.scaled, self.scales_query = softcap, scaled, scales_query
        self.unrotated, self.axes, self.repeats = unrotated, axes, repeats
        self.normed, self.late_softmax, self.weigh_first = normed, late_softmax, weigh_first
        self.groups = groups


USUAL = Traits()

GEMMA3 = Traits(windows=True, scaled=True, scales_query=True)
QWEN3_5 = Traits(picks=AFTER_NORM, keeps_hidden=True, axes=4)

TRAITS = {
    "gemma": Traits(scaled=True, scales_query=True),
    "gemma2": Traits(windows=True, softcap=True, scaled=True, scales_query=True),
    "gemma3": GEMMA3,
    "gemma3_text": GEMMA3,
    "granitemoehybrid": Traits(unrotated=True),
    "gpt_oss": Traits(windows=True, picks=BEFORE_NORM, keeps_hidden=True, late_softmax=True, normed=False),
    "qwen3_next": Traits(picks=AFTER_NORM, keeps_hidden=True, repeats=True),
    "qwen3_5": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
    "qwen3_5_moe": QWEN3_5,
    "qwen3_5_moe_text": QWEN3_5,
    "deepseek_v2": Traits(normed=False, keeps_hidden=True),
    "deepseek_v3": Traits(keeps_hidden=True, groups=8),
    "glm4_moe": Traits(keeps_hidden=True),
}


def traits_of(family: str) -> Traits:
    """What is peculiar to a family's graph."""
    return TRAITS.get(family, USUAL)
