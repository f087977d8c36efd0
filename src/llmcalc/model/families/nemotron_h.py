"""Nemotron-H and Nemotron 3: one norm and one mixer a layer - Mamba-2, attention, MLP, or experts.

The experts of the large ones run at a narrower "latent" width. A prediction module, an attention and
an expert layer, is stored beside the model.
"""

import sys

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families import _hybrid, unembed
from llmcalc.model.families._blocks import dense, grouped
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, mamba2, moe, norm, projection

PREFIX = "backbone.layers.{layer}"
NAMES = {
    "embedding": "backbone.embeddings",
    "mixer_norm": "norm",
    "ssm_in": "mixer.in_proj",
    "conv": "mixer.conv1d",
    "dt_bias": "mixer.dt_bias",
    "a_log": "mixer.A_log",
    "skip": "mixer.D",
    "ssm_norm": "mixer.norm",
    "ssm_out": "mixer.out_proj",
    "query": "mixer.q_proj",
    "key": "mixer.k_proj",
    "value": "mixer.v_proj",
    "output": "mixer.o_proj",
    "up": "mixer.up_proj",
    "down": "mixer.down_proj",
    "router": "mixer.gate",
    "router_correction": "mixer.gate.e_score_correction_bias",
    "latent_down": "mixer.fc1_latent_proj",
    "latent_up": "mixer.fc2_latent_proj",
    "expert_up": "mixer.experts.{expert}.up_proj",
    "expert_down": "mixer.experts.{expert}.down_proj",
    "shared_up": "mixer.shared_experts.up_proj",
    "shared_down": "mixer.shared_experts.down_proj",
    "final_norm": "backbone.norm_f",
}
MTP_NAMES = {
    "projection": "layers.0.eh_proj",
    "embedding_norm": "layers.0.enorm",
    "hidden_norm": "layers.0.hnorm",
    "final_norm": "layers.1.final_layernorm",
}
WORDS = {**_hybrid.WORDS, "M": "linear", "*": "full", "-": "mlp", "E": "moe"}
KEYS = ("layers_block_type", "hybrid_override_pattern", "layer_types")


def kinds(c: Config) -> tuple[str, ...]:
    return _hybrid.stated_kinds(c, *KEYS, words=WORDS)


def mixer(c: Config, kind: str) -> Block:
    width = c.hidden_size
    if kind == "linear":
        c.read |= {"expand", "mamba_proj_bias"}
        return mamba2(
            width,
            c.size("mamba_num_heads"),
            c.size("mamba_head_dim"),
            c.size("n_groups"),
            c.size("ssm_state_size"),
            c.size("conv_kernel"),
            bias=c.flag("use_bias"),
            conv_bias=c.flag("use_conv_bias", True),
            state=_hybrid.state_dtype(c, "mamba_ssm_cache_dtype"),
        )
    if kind == "full":
        bias = c.flag("attention_bias")
        return grouped(c, bias=bias, out_bias=bias)
    if kind == "mlp":
        return dense(c, gated=False, bias=c.flag("mlp_bias"))
    return moe(
        width,
        c.size("n_routed_experts"),
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        gated=False,
        correction=True,
        shared_ffn=c.size("moe_shared_expert_intermediate_size"),
        latent=c.optional("moe_latent_size") or 0,
    )


def block(c: Config, layer: int) -> Block:
    return norm("mixer_norm", c.hidden_size) + mixer(c, kinds(c)[layer])


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size) + unembed(c)


def prediction(c: Config) -> list[Group]:
    c.read |= {"mtp_layers_block_type", "mtp_hybrid_override_pattern"}
    if not c.number("num_nextn_predict_layers", stated_only=True):
        return []
    width = c.hidden_size
    around = (
        projection("projection", width, 2 * width)
        + norm("embedding_norm", width)
        + norm("hidden_norm", width)
        + norm("final_norm", width)
    )
    blocks = [norm("mixer_norm", width) + mixer(c, kind) for kind in ("full", "moe")]
    names = {**NAMES, **MTP_NAMES}
    return _hybrid.prediction(c, "num_nextn_predict_layers", around, blocks, "mtp.", names)


def describe(c: Config, catalog: Catalog) -> list[Group]:
    c.__dict__["num_hidden_layers"] = len(kinds(c))  # some files state only the pattern
    c.read |= {
        "intermediate_size",
        "attention_head_dim",
        "n_shared_experts",
        "n_routed_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "moe_latent_size",
    }
    return families.decoder(sys.modules[__name__], c) + prediction(c)


def split(c: Config) -> dict[str, int]:
    return {"attention heads": c.num_attention_heads, "state heads": c.size("mamba_num_heads")}
