"""What the modelling code of single families does that their inventory does not tell."""

from __future__ import annotations

NARROW_ROUTERS = (
    "flex_olmo", "gpt_oss", "granitemoe", "granitemoehybrid", "jamba", "olmoe", "qwen2_moe", "qwen3_5_moe",
    "qwen3_5_moe_text", "qwen3_moe", "qwen3_next", "qwen3_vl_moe", "qwen3_vl_moe_text",
)  # fmt: skip


class Traits:
    """Traits of a family.

    Attributes
    ----------
    capped : bool
        Scores are capped, for which there is no sdpa.
    wide_router : bool
        Experts are weighed in fp32, not in the model's dtype.
    two_rotations, wide_angles, unrotated : bool
        Windows and whole layers rotate by tables of their own; tables are in fp32; there are none.
    wide_rotation : bool
        Queries and keys are rotated in fp32.
    lingers : bool
        Position embeddings and what attention returns keep their names to the end of the layer.
    position_bias : bool
        Each head adds a bias to every score, made of a table by the tokens' distance.
    long_gelu : bool
        The activation is written out, power and all.
    narrow_softmax : bool
        Eager attention stays in the model's dtype.

    Examples
    --------
    >>> Traits("mixtral").wide_router, Traits("qwen3_moe").wide_router
    (True, False)
    """

    __slots__ = (
        "capped", "lingers", "long_gelu", "narrow_softmax", "position_bias", "two_rotations", "unrotated",
        "wide_angles", "wide_rotation", "wide_router",
    )  # fmt: skip

    def __init__(self, family: str) -> None:
        self.capped = family in ("gemma2", "vaultgemma")
        self.wide_router = family not in NARROW_ROUTERS
        self.two_rotations = family.startswith(("gemma3", "gemma4"))
        self.wide_angles = family in (
            "cohere",
            "cohere2",
            "ernie4_5",
            "ernie4_5_moe",
            "olmo",
            "olmo2",
            "olmo3",
        )
        self.wide_rotation = family in ("cohere", "cohere2", "ernie4_5", "ernie4_5_moe")
        self.lingers = family in ("gpt2", "gpt_bigcode", "gpt_neo")
        self.position_bias = family == "t5"
        self.unrotated = family in ("bart", "bloom", "jamba", "mpt", "t5", "whisper")
        self.long_gelu = family in ("gpt2", "gpt_neo", "gptj", "phi")
        self.narrow_softmax = family in ("gpt2", "t5")
