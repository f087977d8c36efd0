"""LongCat Flash: in each layer two latent attentions and two MLPs, and experts that run beside them.

Some experts store nothing and pass their input through.
"""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families.deepseek_v2 import attention as latent_attention
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, mlp, moe, norm
from llmcalc.model.layers.variants import renamed

SECOND = "_2"
HALVES = {
    "attn_norm": "input_layernorm.{half}",
    "ffn_norm": "post_attention_layernorm.{half}",
    "query": "self_attn.{half}.q_proj",
    "query_a": "self_attn.{half}.q_a_proj",
    "query_a_norm": "self_attn.{half}.q_a_layernorm",
    "query_b": "self_attn.{half}.q_b_proj",
    "kv_a": "self_attn.{half}.kv_a_proj_with_mqa",
    "kv_a_norm": "self_attn.{half}.kv_a_layernorm",
    "kv_b": "self_attn.{half}.kv_b_proj",
    "output": "self_attn.{half}.o_proj",
    "gate": "mlps.{half}.gate_proj",
    "up": "mlps.{half}.up_proj",
    "down": "mlps.{half}.down_proj",
}
NAMES = {
    **{role: name.replace("{half}", "0") for role, name in HALVES.items()},
    **{role + SECOND: name.replace("{half}", "1") for role, name in HALVES.items()},
    "router": "mlp.router.classifier",
    "router_correction": "mlp.router.e_score_correction_bias",
}


def block(c: Config, layer: int) -> Block:
    half = (
        norm("attn_norm", c.hidden_size)
        + latent_attention(c)
        + norm("ffn_norm", c.hidden_size)
        + mlp(c.hidden_size, c.ffn_hidden_size)
    )
    c.read.add("intermediate_size")
    experts = moe(
        c.hidden_size,
        c.n_routed_experts,
        c.moe_topk,
        c.expert_ffn_hidden_size,
        router_bias=c.flag("router_bias"),
        correction=True,
        zero_experts=c.number("zero_expert_num"),
    )
    return half + renamed(half, SECOND) + experts


def describe(c: Config, catalog: Catalog) -> list[Group]:
    # Some files count attention blocks under this key, two a layer; `num_layers` counts layers.
    if "num_layers" in c.raw:
        c.raw = {key: value for key, value in c.raw.items() if key != "num_hidden_layers"}
    return families.decoder(families.load("longcat_flash", c.label), c)
