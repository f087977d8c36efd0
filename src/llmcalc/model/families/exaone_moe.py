"""K-EXAONE: EXAONE 4's attention with norms before; dense first layers, then experts with a shared one."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, each, grouped, pre_norm, sparse
from llmcalc.model.families.exaone4 import window
from llmcalc.model.layers import Block, moe

NAMES = {"router_correction": "mlp.e_score_correction_bias"}


def has_experts(c: Config, layer: int) -> bool:
    listed = each(c, "is_moe_layer", False, True)
    return bool(listed[layer]) if listed else sparse(c, layer)


def block(c: Config, layer: int) -> Block:
    c.read |= {"num_nextn_predict_layers", "intermediate_size", "first_k_dense_replace"}
    attention = grouped(c, qk_norm="head", window=window(c, layer))
    if not has_experts(c, layer):
        return pre_norm(c, attention, dense(c))
    experts = moe(
        c.hidden_size,
        c.num_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=True,
        shared_ffn=c.number("num_shared_experts") * c.moe_intermediate_size,
    )
    return pre_norm(c, attention, experts)
