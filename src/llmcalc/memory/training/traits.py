"""What a family's modelling code in transformers does that its inventory does not tell."""

from __future__ import annotations

GEMMA_NORMS = ("gemma", "minimax_m3", "muse_glimmer", "qwen3_5", "qwen3_next", "step3p7", "vaultgemma")
WIDE_NORMS = ("afmoe", "deepseek_v4", "flex_olmo", "gpt_oss", "olmo2", "olmo3", "olmo_hybrid")
LAYER_NORMS = ("dbrx", "mpt", "olmo")
LONG_GELU = ("gpt2", "gpt_neo", "gptj", "phi")
SQUARED_RELU = ("arcee", "jais2", "nanochat", "nemotron", "nemotron_h", "persimmon")
RELU = ("opt", "t5")
JOINED = (
    "axk1", "bailing_hybrid", "gpt_neox", "glm", "glm4", "glm4_moe", "laguna", "mimo_v2_flash", "minimax_m2",
    "minimax_m3_vl", "nemotron", "persimmon", "phi", "phi3", "qwen3_5", "qwen3_5_moe", "qwen3_next", "stablelm",
    "step3p7",
)  # fmt: skip
NARROW_TABLES = ("gpt_oss",)
WIDE_TABLES = (
    "cohere",
    "cohere2",
    "ernie4_5",
    "ernie4_5_moe",
    "flex_olmo",
    "olmo",
    "olmo2",
    "olmo3",
    "olmo_hybrid",
)
UNROTATED = ("bart", "bloom", "gpt2", "gpt_bigcode", "gpt_neo", "jamba", "mpt", "opt", "t5", "whisper")
INTERLEAVED = (
    "axk1",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "kimi_k2",
    "youtu",
)
SOFTMAX_LAST = ("gpt_oss", "granitemoe", "granitemoehybrid")
SIGMOID = (
    "axk1", "bailing_hybrid", "deepseek_v3", "deepseek_v32", "dots1", "exaone_moe", "glm4_moe", "glm4_moe_lite",
    "glm_moe_dsa", "kimi_k2", "mimo_v2_flash", "minimax_m2", "mistral4", "solar_open", "youtu",
)  # fmt: skip
NARROW_CHANCES = (
    "flex_olmo", "jamba", "olmoe", "qwen2_moe", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_moe", "qwen3_next",
    "qwen3_vl_moe", "qwen3_vl_moe_text",
)  # fmt: skip
UNNORMED_CHANCES = ("deepseek_v2", "jamba", "olmoe", "qwen2_moe")
CAPPED = ("gemma2", "gemma3n_text", "gemma4", "gemma4_text", "vaultgemma")


def _kinds(*pairs: tuple[str, tuple[str, ...]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return pairs


def _is(family: str, names: tuple[str, ...], exact: bool = True) -> bool:
    return family in names if exact else family.startswith(names)


class Traits:
    """Traits of a family.

    Attributes
    ----------
    norm : str
        ``llama``: scaled in fp32, weighed in the model's dtype; ``wide``: weighed in fp32 as well;
        ``gemma``: weighed in fp32 by one plus the weight; ``layer``: PyTorch's LayerNorm.
    activation : str
        ``kernel``: one kernel, as silu and gelu; ``long``: GPT-2's gelu written out; ``squared``: relu, then
        its square; ``relu``.
    joins : bool
        What rotates of a head and what does not are put side by side, even where all of it rotates.
    tables : str
        Rotation tables: ``""``, ``wide`` (fp32), ``narrow`` (half as wide) or ``none``.
    two_tables : bool
        Windows and whole layers rotate by tables of their own.
    interleaved : bool
        Pairs of neighbours rotate.
    capped, caps_logits : bool
        Scores, and logits, go through a tanh.
    scaled_embedding : bool
        The embedding is multiplied with a tensor of one number.
    router : str
        ``softmax-first``, ``softmax-last`` (of the chosen alone) or ``sigmoid``.
    casts_router, casts_router_weight : bool
        Logits are cast to fp32 before their softmax; the matrix is cast before it is used.
    norms_chances, narrow_chances : bool
        Chances are made to add up to one; they are cast to the model's dtype.
    clamped_gate : bool
        Experts limit gate and up, as GPT-OSS' do.
    narrow_softmax : bool
        Eager attention stays in the model's dtype.
    passes_mask : bool
        The mask goes to a layer by position, so checkpointing saves it.
    side_by_side : bool
        Attention and feed-forward each have a norm, and both read the layer's input.

    Examples
    --------
    >>> Traits("olmo2").norm, Traits("gemma2").capped
    ('wide', True)
    """

    __slots__ = (
        "activation", "capped", "caps_logits", "casts_router", "casts_router_weight", "clamped_gate", "family",
        "interleaved", "joins", "narrow_chances", "narrow_softmax", "norm", "norms_chances", "passes_mask",
        "router", "scaled_embedding", "side_by_side", "tables", "two_tables",
    )  # fmt: skip

    def __init__(self, family: str) -> None:
        self.family = family
        self.norm = "llama"
        if _is(family, GEMMA_NORMS, exact=False):
            self.norm = "gemma"
        elif _is(family, WIDE_NORMS):
            self.norm = "wide"
        elif _is(family, LAYER_NORMS):
            self.norm = "layer"
        self.activation = "kernel"
        for name, families in _kinds(("long", LONG_GELU), ("squared", SQUARED_RELU), ("relu", RELU)):
            if family in families:
                self.activation = name
        self.joins = family in JOINED
        self.tables = ""
        for name, families in _kinds(("wide", WIDE_TABLES), ("narrow", NARROW_TABLES), ("none", UNROTATED)):
            if family in families:
                self.tables = name
        self.two_tables = family.startswith(("gemma3", "gemma4"))
        self.interleaved = family in INTERLEAVED
        self.capped = family in ("gemma2", "vaultgemma")
        self.caps_logits = family in CAPPED
        self.scaled_embedding = family.startswith("gemma") or family == "vaultgemma"
        self.router = "softmax-first"
        for name, families in _kinds(("softmax-last", SOFTMAX_LAST), ("sigmoid", SIGMOID)):
            if family in families:
                self.router = name
        self.casts_router = family not in NARROW_CHANCES
        self.casts_router_weight = True
        self.norms_chances = family not in UNNORMED_CHANCES
        self.narrow_chances = family in NARROW_CHANCES
        self.clamped_gate = family == "gpt_oss"
        self.narrow_softmax = family in ("gpt2", "t5")
        self.passes_mask = family == "gpt2"
        self.side_by_side = family == "gpt_neox"
