"""What a family's modelling code in transformers does that its inventory does not tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS: dict[str, dict[str, str]] = {
    "norm": {
        "gemma": (
            "gemma gemma2 gemma3 gemma3_text minimax_m3_vl minimax_m3_vl_text muse_glimmer muse_glimmer_text "
            "qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text qwen3_next step3p7 vaultgemma"
        ),
        "wide": "afmoe deepseek_v4 flex_olmo gpt_oss olmo2 olmo3 olmo_hybrid",
        "centred": "cohere cohere2",
        "layer": "dbrx mpt",
        "wide-layer": "olmo",
        "plus-layer": "nemotron",
        "cast": "helium",
    },
    "activation": {
        "long": "gpt2 gpt_neo gptj phi",
        "squared": "arcee jais2 nanochat nemotron nemotron_h persimmon",
        "output": "opt t5",
    },
    "tables": {
        "wide": "ernie4_5 ernie4_5_moe flex_olmo lfm3 olmo olmo2 olmo3 olmo_hybrid",
        "narrow": "gpt_oss",
        "complex": "deepseek_v2 llama4_text",
        "none": "bart bloom gpt2 gpt_bigcode gpt_neo jamba mpt nemotron_h opt t5 whisper",
    },
    "router": {
        "softmax-last": "gpt_oss granitemoe granitemoehybrid",
        "sigmoid": (
            "axk1 bailing_hybrid deepseek_v3 deepseek_v32 dots1 exaone_moe glm4_moe glm4_moe_lite "
            "glm_moe_dsa kimi_k2 mimo_v2_flash minimax_m2 mistral4 solar_open youtu"
        ),
    },
}
"""How things are done that are done in several ways; the first way is that of all other families."""

FIRST = {"norm": "llama", "activation": "input", "tables": "", "router": "softmax-first"}

FLAGS: dict[str, str] = {
    "joins": (
        "axk1 bailing_hybrid gpt_neox glm glm4 glm4_moe laguna mimo_v2_flash minimax_m2 minimax_m3_vl "
        "nemotron persimmon phi phi3 qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text qwen3_next stablelm "
        "step3p7"
    ),
    "two_tables": "gemma3 gemma3_text gemma3n_text gemma4 gemma4_text olmo3",
    "repeats_tables": "ernie4_5 ernie4_5_moe glm glm4 glm4v helium",
    "wide_rotation": "cohere cohere2 ernie4_5 ernie4_5_moe",
    "interleaved": "axk1 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa kimi_k2 youtu",
    "capped": "gemma2 vaultgemma",
    "caps_logits": "gemma2 gemma3n_text gemma4 gemma4_text vaultgemma",
    "scaled_embedding": "gemma gemma2 gemma3 gemma3_text gemma3n_text gemma4 gemma4_text vaultgemma",
    "scaled_logits": "cohere cohere2 falcon_h1 granite granitemoe granitemoehybrid",
    "scaled_branches": "granite granitemoe granitemoehybrid",
    "scaled_mixers": "falcon_h1",
    "wide_residual": "mamba mamba2 falcon_mamba",
    "side_by_side": "gpt_neox",
    "narrow_softmax": "falcon gpt2 t5",
    "wide_scores": "gpt_neo gptj",
    "picks_heads": "falcon",
    "wide_chances": "granitemoe granitemoehybrid",
    "own_positions": "opt",
    "passes_mask": "gpt2",
    "narrow_chances": (
        "flex_olmo jamba olmoe qwen2_moe qwen3_5_moe qwen3_5_moe_text qwen3_moe qwen3_next qwen3_vl_moe "
        "qwen3_vl_moe_text"
    ),
    "wide_router": "deepseek_v2",
    "unnormed_chances": "deepseek_v2 jamba olmoe qwen2_moe",
    "clamped_gate": "gpt_oss",
}

ACTIVATIONS = {
    "gelu": "input", "gelu_fast": "long", "gelu_new": "long", "gelu_pytorch_tanh": "input",
    "quick_gelu": "sigmoid", "relu": "output", "relu2": "squared", "silu": "input", "swish": "input",
}  # fmt: skip

VERIFIED = (
    "arcee", "bloom", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5", "exaone4",
    "falcon", "falcon_h1", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "glm4_moe", "gpt2",
    "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "granite", "granitemoe", "helium", "hunyuan_v1_dense",
    "lfm2", "llama", "mamba2", "mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt",
    "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "smollm3", "stablelm",
    "starcoder2", "vaultgemma",
)  # fmt: skip
"""Families whose saved bytes were compared with what autograd really kept."""


class Traits:
    """Traits of a family.

    Parameters
    ----------
    family : str
        Its `model_type`.
    facts : mapping
        What the configuration says of how layers run.

    Attributes
    ----------
    norm : str
        ``llama``: scaled in fp32, weighed in the model's dtype; ``wide``: weighed in fp32 as well;
        ``gemma``: weighed in fp32 by one plus the weight; ``cast``: by the weight's fp32 copy;
        ``centred``: a LayerNorm written out in fp32; ``layer``: PyTorch's LayerNorm, ``wide-layer`` in fp32,
        ``plus-layer`` with one plus the weight.
    activation : str
        ``input``: one kernel that saves its input, as silu and gelu do; ``output``: its result, as relu;
        ``long``: GPT-2's gelu written out; ``squared``: relu, then its square; ``sigmoid``: a quick gelu.
    tables : str
        Rotation tables: ``""``, ``wide`` (fp32), ``narrow`` (half as wide), ``complex`` or ``none``.
    router : str
        ``softmax-first``, ``softmax-last`` (of the chosen alone) or ``sigmoid``.
    joins : bool
        What rotates of a head and what does not are put side by side, even where all of it rotates.
    two_tables : bool
        Windows and whole layers rotate by tables of their own.
    wide_rotation, interleaved : bool
        Queries and keys are rotated in fp32; pairs of neighbours rotate.
    capped, caps_logits, scaled_logits : bool
        Scores go through a tanh; logits do; logits are multiplied with a number.
    scaled_embedding, scaled_branches : bool
        The embedding, or what a layer adds to the residual, is multiplied with a number.
    scaled_mixers : bool
        What attention and recurrence read and make is multiplied with numbers, as are gate and result of the
        feed-forward layer.
    wide_residual : bool
        The residual is in fp32 after the first layer.
    side_by_side : bool
        Attention and feed-forward each have a norm, and both read the layer's input.
    wide_scores : bool
        Eager attention multiplies queries and keys in fp32.
    repeats_tables : bool
        Each layer makes rotation tables of its own.
    own_positions : bool
        Each sequence has its own numbers of positions.
    narrow_softmax : bool
        Eager attention stays in the model's dtype.
    picks_heads : bool
        Shared keys and values are picked from the fused projection by an index; a single head is left for
        sdpa to broadcast, which no fused kernel does; and sdpa always gets a mask.
    passes_mask : bool
        The mask goes to a layer by position, so checkpointing saves it.
    wide_chances, narrow_chances, wide_router, unnormed_chances : bool
        The last softmax is in fp32; chances are cast to the model's dtype; the router runs in fp32; chances
        need not add up to one.
    clamped_gate : bool
        Experts limit gate and up, as GPT-OSS' do.
    facts : mapping
        As given.

    Examples
    --------
    >>> Traits("olmo2").norm, Traits("gemma2").capped, Traits("mixtral", {"hidden_act": "relu2"}).activation
    ('wide', True, 'squared')
    """

    __slots__ = (*KINDS, *FLAGS, "facts", "family")

    norm: str
    activation: str
    tables: str
    router: str
    joins: bool
    two_tables: bool
    wide_rotation: bool
    interleaved: bool
    capped: bool
    caps_logits: bool
    scaled_embedding: bool
    scaled_logits: bool
    scaled_branches: bool
    scaled_mixers: bool
    wide_residual: bool
    side_by_side: bool
    narrow_softmax: bool
    wide_scores: bool
    picks_heads: bool
    wide_chances: bool
    own_positions: bool
    repeats_tables: bool
    passes_mask: bool
    narrow_chances: bool
    wide_router: bool
    unnormed_chances: bool
    clamped_gate: bool

    def __init__(self, family: str, facts: Mapping[str, Any] | None = None) -> None:
        self.family, self.facts = family, facts or {}
        for name, kinds in KINDS.items():
            kind = next((kind for kind, families in kinds.items() if family in families.split()), FIRST[name])
            setattr(self, name, kind)
        for name, families in FLAGS.items():
            setattr(self, name, family in families.split())
        self._correct()

    def _correct(self) -> None:
        """What the configuration says goes before what its family usually does."""
        facts = self.facts
        for key in ("hidden_activation", "hidden_act", "activation_function", "mlp_hidden_act"):
            stated = facts.get(key)
            if isinstance(stated, str) and self.family != "gemma":
                self.activation = ACTIVATIONS.get(stated, self.activation)
                break
        if facts.get("use_parallel_residual") is False:
            self.side_by_side = False
        if isinstance(facts.get("norm_topk_prob"), bool) and self.family != "deepseek_v2":
            self.unnormed_chances = not facts["norm_topk_prob"]
        for key, name in (("final_logit_softcapping", "caps_logits"), ("attn_logit_softcapping", "capped")):
            if key in facts:
                setattr(self, name, facts[key] is not None)

    def drops(self, *keys: str) -> bool:
        """Whether the configuration asks for dropout under one of these keys."""
        return any(isinstance(self.facts.get(key), float) and self.facts[key] > 0 for key in keys)

    @property
    def verified(self) -> bool:
        """Whether what this family saves was compared with what autograd really kept."""
        return self.family in VERIFIED
